;; A handler (wasi 0.2) that imports an interface which no host has, `acme:secret/vault@1.0.0`, and calls it.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (import "acme:secret/vault@1.0.0" (instance $vault
    (export "open" (func (result u32)))))
  (core func $open (canon lower (func $vault "open")))

  (core module $guest
    (import "vault" "open" (func $open (result i32)))
    (func (export "handle") (param $request i32) (param $out i32)
      (drop (call $open))))
  (core instance $guest (instantiate $guest
    (with "vault" (instance (export "open" (func $open))))))

  (func $handle
    (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
