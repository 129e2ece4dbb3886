//! What `wasmhost build` writes into a component beside what the toolchain made: custom sections of ours, appended to its
//! outermost level, where other hosts skip them. `sandbox::source` reads them; `compile` carries them into a `.cwasm`.

use wasm_encoder::{CustomSection, Section as _};

use wasmhost_sandbox::{REUSE_SECTION, describe};

/// What is known of a component that cannot be seen in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its instances serve request after request, although its toolchain's commonly do not.
    pub bears_reuse: bool,
}

/// The component with its marks, each of them once. `component` is in the binary format; its last section ends where it
/// ends.
pub fn mark(component: &[u8], marks: Marks) -> Vec<u8> {
    let mut marked = component.to_vec();
    let is_marked = describe(component).is_ok_and(|description| description.marked_reusable);
    if marks.bears_reuse && !is_marked {
        append_custom_section(&mut marked, REUSE_SECTION, b"");
    }
    marked
}

/// Custom sections have one form in components and modules.
fn append_custom_section(binary: &mut Vec<u8>, name: &str, content: &[u8]) {
    CustomSection { name: name.into(), data: content.into() }.append_to(binary);
}

#[cfg(test)]
mod tests {
    use wasmparser::{Parser, Payload};

    use super::*;

    /// Header of an empty component (component model, binary format).
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn an_unmarked_component_stays_as_it_is() {
        assert_eq!(mark(EMPTY, Marks::default()), EMPTY);
    }

    #[test]
    fn marks_are_custom_sections_of_the_outermost_level() {
        let marked = mark(EMPTY, Marks { bears_reuse: true });
        assert_eq!(marked[..8], *EMPTY);
        assert_eq!(marked[8..10], [0, 21]);
        let names: Vec<String> = Parser::new(0)
            .parse_all(&marked)
            .filter_map(|payload| match payload {
                Ok(Payload::CustomSection(section)) => Some(section.name().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(names, [REUSE_SECTION]);
    }

    #[test]
    fn a_mark_is_set_once_and_one_within_is_not_the_outermost_levels() {
        let once = mark(EMPTY, Marks { bears_reuse: true });
        assert_eq!(mark(&once, Marks { bears_reuse: true }), once);
        // A component section (4) that holds the marked component.
        let mut outer = EMPTY.to_vec();
        outer.extend([4, u8::try_from(once.len()).unwrap_or_default()]);
        outer.extend(&once);
        let marked = mark(&outer, Marks { bears_reuse: true });
        assert_eq!(marked[..outer.len()], *outer);
        assert_eq!(marked.len(), outer.len() + once.len() - EMPTY.len());
    }

    #[test]
    fn long_sections_have_a_size_of_several_bytes() {
        let mut bytes = Vec::new();
        // A name of one byte, and its length.
        append_custom_section(&mut bytes, "x", &vec![0; 624_485 - 2]);
        assert_eq!(bytes[1..4], [0xe5, 0x8e, 0x26]);
    }
}
