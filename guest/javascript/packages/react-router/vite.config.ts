import { reactRouter } from '@react-router/dev/vite';
import { defineConfig } from 'vite';

// As the starter for Workers had it: the server's code is for the web, not for Node.js, and begins with `workers/app.ts`.
export default defineConfig(({ isSsrBuild }) => ({
  build: { rollupOptions: isSsrBuild ? { input: './workers/app.ts' } : undefined },
  plugins: [reactRouter()],
  ssr: { target: 'webworker', noExternal: true, resolve: { conditions: ['workerd', 'worker', 'browser'] } },
}));
