// Rendering on the server, a route for each framework.

import { answer } from '../../answer.js';
import { preact } from './preact.jsx';
import { react } from './react.jsx';
import { solid } from './solid.js';
import { svelte } from './svelte.js';

export default { fetch: answer({ 'preact-render-to-string': preact, 'react-dom': react, 'solid-js': solid, svelte }) };
