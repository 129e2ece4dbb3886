//! Reproductions for wasmtime, without anything of wasmhost: what grows with the size of a component or of a type, and need
//! not. `docs/DEPENDENCIES.md` says what is behind each. Prints nanoseconds for each of some sizes; run it in the release
//! profile.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use wasmtime::component::{Component, FutureReader, Lift, Linker, Lower, ResourceTable};
use wasmtime::{Config, Engine, Store, StoreContextMut};

/// Functions of a component.
const SIZES: [usize; 3] = [1, 32, 256];
const INSTANCES: u32 = 20_000;
const FUTURES: u32 = 200_000;

type Ten = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
/// A payload of forty parts, as wasi:http's `error-code` has 39 cases.
type Wide = (Ten, Ten, Ten, Ten);

fn main() -> wasmtime::Result<()> {
    for functions in SIZES {
        let ns = instantiate(&between_modules(functions))?;
        println!("an instance; one module imports {functions} functions of another (lookup_vmdef): {ns} ns");
    }
    for functions in SIZES {
        let ns = instantiate(&of_the_host(functions))?;
        println!("an instance; it imports {functions} functions of the host (trampoline_ptrs): {ns} ns");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let ten = "(tuple u32 u32 u32 u32 u32 u32 u32 u32 u32 u32)";
    let narrow = runtime.block_on(lower::<u32>("u32"))?;
    let wide = runtime.block_on(lower::<Wide>(&format!("(tuple {ten} {ten} {ten} {ten})")))?;
    println!("a future<u32> for the guest (typecheck_lowered_transmit): {narrow} ns");
    println!("a future of a tuple of 4 x 10 u32: {wide} ns");
    Ok(())
}

/// One line for each function.
fn lines(functions: usize, line: impl Fn(usize) -> String) -> String {
    (0..functions).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", line(number));
        text
    })
}

/// A core module that exports functions, and another that imports them.
fn between_modules(functions: usize) -> String {
    let exports = lines(functions, |number| format!(r#"(func (export "{number}"))"#));
    let imports = lines(functions, |number| format!(r#"(import "a" "{number}" (func))"#));
    format!(
        r#"(component
            (core module $a {exports})
            (core module $b {imports})
            (core instance $a (instantiate $a))
            (core instance (instantiate $b (with "a" (instance $a)))))"#
    )
}

/// A core module that imports functions of the host.
fn of_the_host(functions: usize) -> String {
    let exports = lines(functions, |number| format!(r#"(export "f{number}" (func))"#));
    let lowered = lines(functions, |number| format!(r#"(core func $f{number} (canon lower (func $h "f{number}")))"#));
    let imports = lines(functions, |number| format!(r#"(import "h" "{number}" (func))"#));
    let given = lines(functions, |number| format!(r#"(export "{number}" (func $f{number}))"#));
    format!(
        r#"(component
            (import "h" (instance $h {exports}))
            {lowered}
            (core module $b {imports})
            (core instance (instantiate $b (with "h" (instance {given})))))"#
    )
}

/// Nanoseconds that it takes to make and drop an instance of a component that is linked already.
fn instantiate(component: &str) -> wasmtime::Result<u128> {
    let engine = Engine::default();
    let component = Component::new(&engine, component)?;
    let mut linker = Linker::<()>::new(&engine);
    let mut host = linker.instance("h")?;
    for number in 0..SIZES.into_iter().max().unwrap_or(0) {
        host.func_wrap(&format!("f{number}"), |_: StoreContextMut<'_, ()>, (): ()| Ok(()))?;
    }
    let linked = linker.instantiate_pre(&component)?;
    let began = Instant::now();
    for _ in 0..INSTANCES {
        black_box(linked.instantiate(&mut Store::new(&engine, ()))?);
    }
    Ok(began.elapsed().as_nanos() / u128::from(INSTANCES))
}

/// Nanoseconds that a guest takes to get a future with this payload from the host, and to drop it.
async fn lower<T: Lift + Lower + Send + Sync + 'static>(payload: &str) -> wasmtime::Result<u128> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config)?;
    let component = format!(
        r#"(component
            (type $future (future {payload}))
            (import "get" (func $get (result $future)))
            (core func $get (canon lower (func $get)))
            (core func $drop (canon future.drop-readable $future))
            (core module $guest
                (import "host" "get" (func $get (result i32)))
                (import "host" "drop" (func $drop (param i32)))
                (func (export "run") (param $left i32)
                    (loop $again
                        (call $drop (call $get))
                        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
            (core instance $guest (instantiate $guest
                (with "host" (instance (export "get" (func $get)) (export "drop" (func $drop))))))
            (func (export "run") (param "times" u32) (canon lift (core func $guest "run"))))"#
    );
    let component = Component::new(&engine, component)?;
    let mut linker = Linker::<ResourceTable>::new(&engine);
    linker.root().func_wrap("get", |mut store: StoreContextMut<'_, ResourceTable>, (): ()| {
        let never = std::future::pending::<wasmtime::Result<T>>();
        Ok((FutureReader::new(&mut store, never)?,))
    })?;
    let mut store = Store::new(&engine, ResourceTable::new());
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let run = instance.get_typed_func::<(u32,), ()>(&mut store, "run")?;
    let began = Instant::now();
    run.call_async(&mut store, (FUTURES,)).await?;
    Ok(began.elapsed().as_nanos() / u128::from(FUTURES))
}
