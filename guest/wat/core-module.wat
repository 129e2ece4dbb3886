;; A core module, not a component: to be refused with a hint at how to wrap it.
(module
  (func (export "handle") (param $request i32) (param $out i32)))
