import { redirect } from 'react-router';

export const loader = () => redirect('/products/1', 301);
