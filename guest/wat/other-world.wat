;; A component of another world: a command (`wasi:cli/run`), with no HTTP handler to serve.
(component
  (core module $guest
    (func (export "run") (result i32) (i32.const 0))) ;; ok
  (core instance $guest (instantiate $guest))

  (func $run (result (result)) (canon lift (core func $guest "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
