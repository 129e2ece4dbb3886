//! Links the core modules of a component into one, when the component is built.
//!
//! componentize-py makes a component of a dozen core modules (libc, libpython, the bindings and others) that share a memory and
//! a table. An instance of it costs the host a look-up for each of some 2,000 imports between them, and the table is filled
//! function by function, because it belongs to another module than its elements. In one module, imports are plain calls, and
//! the engine prepares the table once for all instances.
//!
//! What is linked: all core instances whose imports can be had before any of their exports is used outside. In components of
//! `wit-component`, the only one left is the small module that puts the lowered imports into a table.

mod link;
mod merge;
mod module;
mod needs;
mod parts;
mod rewrite;
mod segments;
mod unfit;

use self::link::Linked;
use self::module::CoreModule;
use self::parts::ComponentParts;
use self::unfit::{Unfit, unfit};
use wasmparser::Instance;

/// The component with its core modules linked into one, which does the same.
///
/// # Errors
/// When it has nothing to link, or something that this does not know: the component is fine as it is. Says why.
pub(super) fn flatten(component: &[u8]) -> Result<Vec<u8>, String> {
    valid(component)?;
    let flat = linked(component).map_err(|Unfit(reason)| reason)?;
    valid(&flat)?;
    Ok(flat)
}

/// Fails where the engine would refuse it.
fn valid(component: &[u8]) -> Result<(), String> {
    let mut features = wasmparser::WasmFeatures::all();
    features.remove(wasmparser::WasmFeatures::GC | wasmparser::WasmFeatures::MEMORY64);
    let validated = wasmparser::Validator::new_with_features(features).validate_all(component);
    validated.map(drop).map_err(|error| error.to_string())
}

fn linked(component: &[u8]) -> Result<Vec<u8>, Unfit> {
    let parts = ComponentParts::read(component)?;
    let modules = parts.modules.iter().map(|bytes| CoreModule::read(bytes)).collect::<Result<Vec<_>, _>>()?;
    let mut members = parts.instantiated_once();
    loop {
        keep_starts_in_order(&parts, &modules, &mut members);
        if members.len() < 2 {
            return unfit("it has no two core modules that can be linked");
        }
        let linked = Linked::resolve(&parts, &modules, &members)?;
        let mut late = needs::members_that_come_late(&parts, &linked)?;
        late.extend(segments::members_that_write_after_others(&parts, &modules, &linked)?);
        if late.is_empty() {
            let wanted = needs::roots(&parts, &linked)?.of_members;
            let merged = merge::merge(&parts, &linked, &wanted)?;
            return rewrite::component(&parts, &linked, &merged);
        }
        members.retain(|member| !late.contains(member));
    }
}

/// What a start function sees must be as before: no module with one is linked, nor any that comes after one, or after an
/// instance of another component, which may have one.
fn keep_starts_in_order(parts: &ComponentParts<'_>, modules: &[CoreModule<'_>], members: &mut Vec<u32>) {
    let starts = |instance: &u32| match parts.instance(*instance) {
        Ok(Instance::Instantiate { module_index, .. }) => {
            modules.get(*module_index as usize).is_none_or(|module| module.start.is_some())
        }
        _ => false,
    };
    members.retain(|member| !parts.comes_after_others(*member));
    if let Some(first) = (0..).take(parts.instances.len()).find(starts) {
        members.retain(|member| *member < first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two modules that share a memory and a table, as a linker of dynamic libraries leaves them, and the shim of
    /// `wit-component` for the lowered import `f`.
    const SHARED: &str = r#"(component
        (import "f" (func $f (param "text" string)))
        (core module $env
            (memory (export "memory") 1)
            (table (export "table") 4 funcref)
            (global (export "base") i32 (i32.const 2))
            (global (export "address") (mut i32) (i32.const 40))
            (global (export "stack") (mut i32) (i32.const 1000)))
        (core module $shim
            (type $t (func (param i32 i32)))
            (table (export "table") 1 funcref)
            (func (export "f") (param i32 i32) (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0))))
        (core module $fixup
            (import "" "f" (func $f (param i32 i32)))
            (import "" "table" (table 1 funcref))
            (elem (i32.const 0) func $f))
        (core module $library
            (import "env" "memory" (memory 1))
            (import "env" "table" (table 4 funcref))
            (import "env" "base" (global $base i32))
            (import "env" "address" (global $address (mut i32)))
            (import "env" "stack" (global $stack (mut i32)))
            (import "host" "f" (func $f (param i32 i32)))
            (elem (global.get $base) func $g)
            (data (i32.const 40) "hello")
            (func $g (global.set $stack (i32.const 7)) (call $f (global.get $address) (i32.const 5)))
            (func $unused (export "unused") unreachable)
            (func (export "run") (call_indirect (i32.add (global.get $base) (i32.const 0))))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $shim (instantiate $shim))
        (core instance $env (instantiate $env))
        (alias core export $shim "f" (core func $shim-f))
        (core instance $host (export "f" (func $shim-f)))
        (core instance $library (instantiate $library (with "env" (instance $env)) (with "host" (instance $host))))
        (alias core export $env "memory" (core memory $memory))
        (alias core export $library "realloc" (core func $realloc))
        (alias core export $shim "table" (core table $table))
        (core func $lowered (canon lower (func $f) (memory $memory) (realloc $realloc)))
        (core instance $arguments (export "f" (func $lowered)) (export "table" (table $table)))
        (core instance (instantiate $fixup (with "" (instance $arguments))))
        (alias core export $library "run" (core func $run))
        (func (export "run") (canon lift (core func $run))))"#;

    fn flat(text: &str) -> Result<Vec<u8>, String> {
        flatten(&wat::parse_str(text).map_err(|error| error.to_string())?)
    }

    fn modules(component: &[u8]) -> Result<Vec<CoreModule<'_>>, String> {
        let parts = ComponentParts::read(component).map_err(|Unfit(reason)| reason)?;
        parts
            .modules
            .iter()
            .map(|bytes| CoreModule::read(bytes))
            .collect::<Result<_, _>>()
            .map_err(|Unfit(reason)| reason)
    }

    #[test]
    fn modules_that_share_a_memory_become_one() -> Result<(), String> {
        let flat = flat(SHARED)?;
        let modules = modules(&flat)?;
        let counts: Vec<usize> = modules.iter().map(|module| module.bodies.len()).collect();
        // In order: the merged one (the shim's function, `g`, `run` and `realloc`, and not `unused`), the place of the shim,
        // the fix-up, and the place of the library.
        assert_eq!(counts, [4, 0, 0, 0]);
        let merged = modules.first().ok_or("no module")?;
        assert!(merged.imports.is_empty(), "all its imports were exports of members");
        assert_eq!((merged.tables.len(), merged.memories.len(), merged.data.len()), (2, 1, 1));
        Ok(())
    }

    #[test]
    fn globals_that_nothing_writes_are_numbers_and_elements_have_fixed_places() -> Result<(), String> {
        let flat = flat(SHARED)?;
        let modules = modules(&flat)?;
        let merged = modules.first().ok_or("no module")?;
        assert_eq!(merged.globals.len(), 1, "only the stack pointer is written");
        let element = merged.elements.first().ok_or("no element")?;
        let wasmparser::ElementKind::Active { offset_expr, .. } = &element.kind else {
            return Err("passive".to_owned());
        };
        let offset = offset_expr.get_operators_reader().read().map_err(|error| error.to_string())?;
        assert!(matches!(offset, wasmparser::Operator::I32Const { value: 2 }), "{offset:?}");
        Ok(())
    }

    #[test]
    fn a_start_function_runs_after_what_came_before_it_and_is_not_linked() -> Result<(), String> {
        // As `wit-component` calls a library's initialization, behind the fix-up.
        let starting = SHARED.replace(
            "(alias core export $library \"run\" (core func $run))",
            r#"(alias core export $library "run" (core func $run))
            (core module $start (import "" "run" (func $run)) (start $run))
            (core instance $to-start (export "run" (func $run)))
            (core instance (instantiate $start (with "" (instance $to-start))))"#,
        );
        let flat = flat(&starting)?;
        let modules = modules(&flat)?;
        let starts: Vec<bool> = modules.iter().map(|module| module.start.is_some()).collect();
        assert_eq!(starts, [false, false, false, false, true]);
        assert_eq!(modules.iter().map(|module| module.bodies.len()).collect::<Vec<_>>(), [4, 0, 0, 0, 0]);
        Ok(())
    }

    #[test]
    fn what_is_linked_already_stays_as_it_is() -> Result<(), String> {
        let once = flat(SHARED)?;
        assert_eq!(flatten(&once), Err("it has no two core modules that can be linked".to_owned()));
        Ok(())
    }

    #[test]
    fn modules_that_cannot_be_linked_are_left_alone_with_a_reason() {
        let reason = |text: &str| flat(text).err().unwrap_or_default();
        assert_eq!(reason("(component)"), "it has no two core modules that can be linked");
        let twice = "(component (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))";
        assert_eq!(reason(twice), "it has no two core modules that can be linked");
        let debug =
            SHARED.replace("(global (export \"base\")", "(@custom \".debug_info\" \"\") (global (export \"base\")");
        assert!(reason(&debug).contains("debug information"), "{}", reason(&debug));
        let tag = SHARED.replace("(global (export \"base\")", "(tag) (global (export \"base\")");
        assert!(reason(&tag).contains("not known"), "{}", reason(&tag));
    }

    #[test]
    fn what_the_engine_would_refuse_is_left_as_it_is() {
        // A global that is given to a module outside, too, stays a global, and a constant expression may not read it.
        let shown = SHARED
            .replace("(import \"\" \"table\"", "(import \"\" \"base\" (global i32)) (import \"\" \"table\"")
            .replace(
                "(core instance $arguments",
                "(alias core export $env \"base\" (core global $base)) (core instance $arguments",
            )
            .replace(
                "(export \"table\" (table $table)))",
                "(export \"table\" (table $table)) (export \"base\" (global $base)))",
            );
        let reason = flat(&shown).err().unwrap_or_default();
        assert!(reason.contains("constant expression required"), "{reason}");
        assert!(flat("(component (core instance (instantiate 3)))").is_err(), "it was not valid before");
    }

    #[test]
    fn core_modules_that_others_have_too_are_left_alone() {
        for (more, why) in [
            ("(import \"m\" (core module))", "imports a core module"),
            ("(component (alias outer 1 $env (core module $m)) (core instance (instantiate $m)))", "around it"),
            (
                "(component $c (core module (export \"m\"))) (instance $c (instantiate $c)) (alias export $c \"m\" (core module $other))",
                "from elsewhere",
            ),
        ] {
            let at = if more.starts_with("(import") { "(import \"f\" " } else { "(core instance $shim (instantiate" };
            let reason = flat(&SHARED.replacen(at, &format!("{more} {at}"), 1)).err().unwrap_or_default();
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn a_module_that_writes_into_a_memory_between_two_others_keeps_them_from_being_linked() {
        // The one in between imports a lowered function, so it cannot be linked with them.
        let between = SHARED.replace(
            "(alias core export $library \"run\" (core func $run))",
            r#"(alias core export $library "run" (core func $run))
            (core module $between (import "" "memory" (memory 1)) (import "" "f" (func (param i32 i32)))
                (data (i32.const 0) "first"))
            (core instance $given (export "memory" (memory $memory)) (export "f" (func $lowered)))
            (core instance (instantiate $between (with "" (instance $given))))
            (core module $second (import "env" "memory" (memory 1)) (data (i32.const 0) "second"))
            (core instance (instantiate $second (with "env" (instance $env))))"#,
        );
        assert_eq!(flat(&between).err().as_deref(), Some("its definitions need each other"));
    }

    #[test]
    fn it_still_says_who_made_it() -> Result<(), String> {
        let made = r#"(@producers (language "Rust" "2024"))"#;
        let made = SHARED.replace("(global (export \"base\")", &format!("{made} (global (export \"base\")"));
        let python = made.replace(
            "(import \"host\" \"f\"",
            "(import \"env\" \"base\" (global $libpython3.14.so:memory_base i32)) (import \"host\" \"f\"",
        );
        let python =
            python.replace("(export \"base\") i32", "(export \"base\") (export \"libpython3.14.so:memory_base\") i32");
        let python = python.replace(
            "\"env\" \"base\" (global $libpython",
            "\"env\" \"libpython3.14.so:memory_base\" (global $libpython",
        );
        let flat = flat(&python)?;
        let languages: Vec<String> = modules(&flat)?
            .iter()
            .filter_map(|module| module.producers)
            .map(|data| String::from_utf8_lossy(data).into_owned())
            .collect();
        assert!(languages.iter().any(|made| made.contains("Rust")), "{languages:?}");
        assert!(languages.iter().any(|made| made.contains("Python")), "{languages:?}");
        Ok(())
    }
}
