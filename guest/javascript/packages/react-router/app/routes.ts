import { index, layout, route, type RouteConfig } from '@react-router/dev/routes';

export default [
  index('routes/home.tsx'),
  layout('routes/shop.tsx', [route('products/:id', 'routes/product.tsx')]),
  route('guests', 'routes/guests.tsx'),
  route('later', 'routes/later.tsx'),
  route('old', 'routes/old.ts'),
] satisfies RouteConfig;
