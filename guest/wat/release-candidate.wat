;; A handler of a release candidate of wasi 0.3, `wasi:http/handler@0.3.0-rc-2025-09-16`: no final release of the host's matches it.
(component
  (import "wasi:http/types@0.3.0-rc-2025-09-16" (instance $types
    (export "request" (type (sub resource)))
    (export "response" (type (sub resource)))))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))

  (core module $guest
    (func (export "handle") (param $request i32) (result i32) unreachable))
  (core instance $guest (instantiate $guest))

  (func $handle async (param "request" (own $request)) (result (own $response))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0-rc-2025-09-16" (instance $handler)))
