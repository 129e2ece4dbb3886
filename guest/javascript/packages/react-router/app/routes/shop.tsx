import { Outlet } from 'react-router';

export default function Shop() {
  return (
    <section id="shop">
      <Outlet />
    </section>
  );
}
