//! Replacing a function of wasmtime's in a linker.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

/// Fails unless there is something to put another in the place of: to define it once more without shadowing is an error then.
pub(super) fn check_is_defined<S: 'static>(
    linker: &mut Linker<S>,
    interface: &str,
    call: &str,
) -> wasmtime::Result<()> {
    let defined = linker.instance(interface)?.func_wrap(call, |_: StoreContextMut<'_, S>, (): ()| Ok(()));
    if defined.is_ok() {
        wasmtime::bail!("wasmtime defines no `{call}` in `{interface}` that could be replaced");
    }
    Ok(())
}
