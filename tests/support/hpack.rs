//! HPACK as a client may write it (RFC 7541): every form of a field, with every index and either form of a text; and what no
//! client may write.

/// How a literal field is written (sections 6.2.1 to 6.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It enters the dynamic table.
    Indexed,
    /// It does not.
    Plain,
    /// It enters no table on its way.
    Never,
}

/// A block of fields.
#[derive(Debug, Clone, Default)]
pub struct Block(pub Vec<u8>);

impl Block {
    /// A field of a table (section 6.1).
    pub fn index(mut self, index: usize) -> Self {
        integer(&mut self.0, 0x80, 7, index);
        self
    }

    /// A literal field.
    pub fn field(self, form: Form, name: &str, value: &[u8]) -> Self {
        self.named(form, 0).text(name.as_bytes()).text(value)
    }

    /// A literal field whose name has this index.
    pub fn value(self, form: Form, name: usize, value: &[u8]) -> Self {
        self.named(form, name).text(value)
    }

    /// How a literal field begins: with its name's index; 0: its name follows.
    pub fn named(mut self, form: Form, name: usize) -> Self {
        let (first, bits) = match form {
            Form::Indexed => (0x40, 6),
            Form::Plain => (0, 4),
            Form::Never => (0x10, 4),
        };
        integer(&mut self.0, first, bits, name);
        self
    }

    /// A text (section 5.2).
    pub fn text(mut self, text: &[u8]) -> Self {
        integer(&mut self.0, 0, 7, text.len());
        self.raw(text)
    }

    /// A text in Huffman's code.
    pub fn huffman(mut self, text: &[u8]) -> Self {
        let code = huffman(text);
        integer(&mut self.0, 0x80, 7, code.len());
        self.raw(&code)
    }

    /// The dynamic table's size (section 6.3).
    pub fn size(mut self, size: usize) -> Self {
        integer(&mut self.0, 0x20, 5, size);
        self
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The fields of a GET but for its path, from the static table.
    pub fn get() -> Self {
        Self::default().index(2).index(6).value(Form::Plain, 1, b"test")
    }
}

/// An integer with a prefix of so many bits, in a byte of which the others are given (section 5.1).
pub fn integer(block: &mut Vec<u8>, first: u8, bits: u32, mut value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return block.push(first | u8::try_from(value).expect("a prefix"));
    }
    block.push(first | u8::try_from(most).expect("a prefix"));
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128).expect("seven bits") | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).expect("seven bits"));
}

/// Characters by the length of their code, in the order of their codes (appendix B), with the first code of each length.
const CODES: [(u32, u32, &[u8]); 4] = [
    (5, 0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
];
/// The same of others.
const LONG_CODES: [(u8, u32, u32); 4] =
    [(b'?', 10, 0x3fc), (b'\0', 13, 0x1ff8), (b'\n', 30, 0x3fff_fffc), (b'\r', 30, 0x3fff_fffd)];

fn huffman(text: &[u8]) -> Vec<u8> {
    let code = |byte: u8| {
        let long = LONG_CODES.iter().find(|(of, _, _)| *of == byte).map(|(_, bits, code)| (*bits, *code));
        let short = || {
            CODES.iter().find_map(|(bits, first, of)| {
                let place = of.iter().position(|other| *other == byte)?;
                Some((*bits, first + u32::try_from(place).ok()?))
            })
        };
        long.or_else(short).expect("a character of the list")
    };
    let mut bits: Vec<bool> = Vec::new();
    for (length, code) in text.iter().map(|byte| code(*byte)) {
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    // The most significant bits of EOS.
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}
