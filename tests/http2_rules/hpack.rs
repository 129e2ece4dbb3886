//! Blocks of fields (RFC 7541).

use super::row::*;
use crate::support::http2::get;

pub fn hpack() -> Vec<Row> {
    use Then::Ends;
    let block = |bytes: &[u8]| headers(1, &[&get("/count?bad")[..], bytes].concat());
    let why = "h2 names the error so (RFC 9113, section 4.3, asks for COMPRESSION_ERROR)";
    let mut rows = vec![
        row("2.3.3", "an index that nothing stands at", block(&[0xff, 0x20]), Ends(1)),
        row(
            "4.2",
            "a table larger than allowed",
            headers(1, &[&[0x3f, 0xff, 0xff, 0x03][..], &get("/count?bad")].concat()),
            Ends(1),
        ),
        row("4.2", "a size of the table behind a field", block(&[0x20]), Ends(1)),
        row("5.1", "an integer without end", block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Ends(1)),
        row("5.2", "a string beyond the block's end", block(&[0, 1, b'x', 100, b'y']), Ends(1)),
        row("5.2", "Huffman's code padded by more than 7 bits", block(&[0, 1, b'x', 0x82, 0xff, 0xff]), Ends(1)),
        row("5.2", "Huffman's code padded by zeros", block(&[0, 1, b'x', 0x81, 0x18]), Ends(1)),
        row("5.2", "EOS in Huffman's code", block(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), Ends(1)),
        row("6.1", "the index 0", block(&[0x80]), Ends(1)),
    ];
    for row in &mut rows {
        (row.of, row.why) = (Of::Hpack, why);
    }
    rows
}
