//! What `wasmhost build` writes into a component beside what the toolchain made: custom sections of ours, appended to its
//! outermost level, where other hosts skip them. `sandbox::source` reads them; `compile` carries them into a `.cwasm`.

use crate::sandbox::REUSE_SECTION;

/// What is known of a component that cannot be seen in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its instances serve request after request, although its toolchain's commonly do not.
    pub bears_reuse: bool,
}

/// The component with its marks. `component` is in the binary format; its last section ends where it ends.
pub fn mark(component: &[u8], marks: Marks) -> Vec<u8> {
    let mut marked = component.to_vec();
    if marks.bears_reuse {
        append_custom_section(&mut marked, REUSE_SECTION, b"");
    }
    marked
}

/// Custom sections have id 0, a size, a name with its length, and any bytes (core specification, section 5.5.3).
fn append_custom_section(binary: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + content.len() + 2);
    push_leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    binary.push(0);
    push_leb128(binary, body.len());
    binary.extend_from_slice(&body);
}

/// An unsigned number in the variable-length form of WebAssembly (section 5.2.2).
fn push_leb128(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
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
        let names: Vec<String> = wasmparser::Parser::new(0)
            .parse_all(&marked)
            .filter_map(|payload| match payload {
                Ok(wasmparser::Payload::CustomSection(section)) => Some(section.name().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(names, [REUSE_SECTION]);
    }

    #[test]
    fn long_sections_have_a_size_of_several_bytes() {
        let mut bytes = Vec::new();
        push_leb128(&mut bytes, 624_485);
        assert_eq!(bytes, [0xe5, 0x8e, 0x26]);
    }
}
