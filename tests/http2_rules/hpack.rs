//! Blocks of fields (RFC 7541), and the table that a connection's requests share (RFC 9113, section 4.3).

use super::row::*;
use crate::support::hpack::Block;
use crate::support::hpack::Form::{Indexed, Never, Plain};
use crate::support::http2::{END_HEADERS, END_STREAM, fields, frame, get, kind, request};

/// The index of `:path` in the static table.
const PATH_NAME: usize = 4;
/// The first index of the dynamic table.
const FIRST: usize = 62;
/// The path that requests put into the dynamic table. Its field takes 53 bytes there (section 4.1).
const KEPT: &[u8] = b"/status?code=404";

fn block(block: Block) -> Vec<u8> {
    headers(1, &block.0)
}

/// A GET of what the guest counts, with more.
fn count(more: impl Fn(Block) -> Block) -> Vec<u8> {
    block(more(Block::get().value(Plain, PATH_NAME, b"/count?bad")))
}

/// A request that puts its path into the dynamic table.
fn keeping() -> Block {
    Block::get().value(Indexed, PATH_NAME, KEPT)
}

/// A request, and one behind it on stream 3.
fn two(first: Block, second: Block) -> Vec<u8> {
    [block(first), headers(3, &second.0)].concat()
}

/// A request with the path that stands there in a table.
fn at(index: usize) -> Block {
    Block::get().index(index)
}

fn long(block: Block) -> Block {
    block.field(Indexed, "x", &[b'a'; 1_000])
}

fn cut(block: &[u8], at: usize) -> Vec<u8> {
    [frame(kind::HEADERS, END_STREAM, 1, &block[..at]), frame(kind::CONTINUATION, END_HEADERS, 1, &block[at..])]
        .concat()
}

/// What ends the connection.
fn wrong() -> Vec<Row> {
    let behind = |bytes: &[u8]| block(Block(get("/count?bad")).raw(bytes));
    let more = |of: Block| behind(&of.0);
    let none = || Block::default();
    let after = |first: Block, second: Block| two(first, second);
    let path = get("/count?bad");
    let error = |section, what, bytes| Row {
        of: Of::Hpack,
        ..other(
            section,
            what,
            bytes,
            Then::Ends(1),
            "h2 names the error so (RFC 9113, section 4.3, asks for COMPRESSION_ERROR)",
        )
    };
    vec![
        error("2.3.3", "an index that nothing stands at", behind(&[0xff, 0x20])),
        error("2.3.3", "the first index of the dynamic table, which is empty", more(none().index(FIRST))),
        error("4.2", "a table larger than allowed", block(none().size(65_566).raw(&path))),
        error("4.2", "a table larger than allowed by 1", block(none().size(4_097).raw(&path))),
        error("4.2", "a size of the table behind a field", behind(&[0x20])),
        error("4.3", "a field that a smaller table has displaced", after(keeping(), none().size(52).raw(&at(FIRST).0))),
        error("4.3", "a field that a table of size 0 has displaced, which is 4096 again", {
            after(keeping(), none().size(0).size(4_096).raw(&at(FIRST).0))
        }),
        error("4.3", "a field for a table of size 0", after(none().size(0).raw(&keeping().0), at(FIRST))),
        error("4.4", "a field that others have displaced", after(long(long(long(long(keeping())))), at(FIRST + 4))),
        error("4.4", "a field displaced by one that is larger than the table", {
            after(keeping().field(Indexed, "x", &[b'a'; 5_000]), at(FIRST))
        }),
        error("5.1", "an integer without end", behind(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        error("5.1", "an integer beyond 32 bits", behind(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x20])),
        error("5.1", "an integer of ten bytes that are 0", behind(&[&[0xff][..], &[0x80; 9], &[0]].concat())),
        error("5.1", "an integer that ends with its block", behind(&[0xff])),
        error("5.2", "a string beyond the block's end", behind(&[0, 1, b'x', 100, b'y'])),
        error("5.2", "a string of 2^31 bytes", behind(&[0, 1, b'x', 0x7f, 0x81, 0xff, 0xff, 0xff, 0x07, b'y'])),
        error(
            "5.2",
            "a string beyond the end of a CONTINUATION",
            cut(&[&path[..], &[0, 1, b'x', 9, b'y']].concat(), 20),
        ),
        error("5.2", "Huffman's code padded by more than 7 bits", behind(&[0, 1, b'x', 0x82, 0xff, 0xff])),
        error("5.2", "Huffman's code padded by zeros", behind(&[0, 1, b'x', 0x81, 0x18])),
        error("5.2", "EOS in Huffman's code", behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])),
        error("5.2", "EOS between characters", behind(&[0, 1, b'x', 0x85, 0x1f, 0xff, 0xff, 0xff, 0xe3])),
        error("6.1", "the index 0", behind(&[0x80])),
        error("6.2.1", "a field to be kept whose name nothing stands at", more(none().value(Indexed, FIRST, b"y"))),
        error("6.2.1", "a field without its value", more(none().named(Indexed, 0).text(b"x"))),
        error("6.2.2", "a field whose name nothing stands at", more(none().value(Plain, FIRST, b"y"))),
        error("6.2.2", "a field that was not to be kept, by its index", {
            after(Block::get().value(Plain, PATH_NAME, KEPT), at(FIRST))
        }),
        error("6.2.3", "a field never to be kept whose name nothing stands at", more(none().value(Never, FIRST, b"y"))),
        error("6.2.3", "a field that was never to be kept, by its index", {
            after(Block::get().value(Never, PATH_NAME, KEPT), at(FIRST))
        }),
        error("6.3", "a size of the table that ends with its block", block(none().raw(&[0x3f]))),
    ]
}

/// What is read as it was meant.
fn right() -> Vec<Row> {
    use Then::Answers;
    let none = || Block::default();
    let path = get("/count?bad");
    let padded = |length: &[u8]| {
        let value = [b'y'; 127];
        count(|block| block.named(Plain, 0).text(b"x").raw(length).raw(&value))
    };
    let in_pieces = count(|block| block.field(Plain, "x", &[b'y'; 300]));
    let mut rows = vec![
        row("4.2", "two sizes of the table at once", block(none().size(0).size(4_096).raw(&path)), Answers(200)),
        other(
            "4.2",
            "three sizes of the table at once",
            block(none().size(9).size(0).size(4_096).raw(&path)),
            Answers(200),
            "h2 takes any number of them",
        ),
        row(
            "4.4",
            "a field larger than the table",
            count(|block| block.field(Indexed, "x", &[b'a'; 5_000])),
            Answers(200),
        ),
        row("5.1", "an integer with a byte more than it needs", padded(&[0x7f, 0x80, 0]), Answers(200)),
        row("5.1", "an integer in two frames", cut(&in_pieces[9..], in_pieces.len() - 9 - 301), Answers(200)),
        row("5.2", "a string in two frames", cut(&in_pieces[9..], in_pieces.len() - 9 - 100), Answers(200)),
        row(
            "5.2",
            "a name and a value in Huffman's code",
            count(|block| block.named(Plain, 0).huffman(b"x-some").huffman(b"value; of *all* kinds")),
            Answers(200),
        ),
        row(
            "5.2",
            "an empty value in Huffman's code",
            count(|block| block.named(Plain, 0).text(b"x").raw(&[0x80])),
            Answers(200),
        ),
        row(
            "5.2",
            "Huffman's code padded by 7 bits",
            count(|block| block.named(Plain, 0).text(b"x").huffman(b"aaz")),
            Answers(200),
        ),
        row("6.1", "a field of the static table without a value", count(|block| block.index(15)), Answers(200)),
        row(
            "6.2.3",
            "a field never to be kept",
            count(|block| block.field(Never, "authorization", b"x")),
            Answers(200),
        ),
    ];
    // The path tells that what was kept is what was meant.
    rows.extend(
        [
            ("2.3.2", "a field that an earlier request has kept", keeping(), at(FIRST)),
            ("4.3", "a kept field in a smaller table that it fills", keeping(), none().size(53).raw(&at(FIRST).0)),
            ("4.4", "the oldest field of a full table", long(long(long(keeping()))), at(FIRST + 3)),
            (
                "4.4",
                "a field that displaces the one whose name it has",
                get_of(b"/hello").field(Indexed, ":path", &[b'/'; 2_500]),
                Block::get().value(Indexed, FIRST, &[KEPT, &[b'#'; 2_500]].concat()),
            ),
            ("5.2", "a path in Huffman's code", get_of(b"/hello"), Block::get().named(Plain, PATH_NAME).huffman(KEPT)),
        ]
        .map(|(section, what, first, second)| Row {
            stream: 3,
            ..row(section, what, two(first, second), Answers(404))
        }),
    );
    rows.iter_mut().for_each(|row| row.of = Of::Hpack);
    rows
}

fn get_of(path: &[u8]) -> Block {
    Block::get().value(Plain, PATH_NAME, path)
}

/// The table after a request that has filled it and is not served.
fn kept() -> Vec<Row> {
    let then = |first: Vec<u8>| [first, headers(3, &at(FIRST).0)].concat();
    let malformed = Block::get().field(Plain, "te", b"gzip").value(Indexed, PATH_NAME, KEPT);
    let large = (0..17).fold(Block::get(), |block, _| block.field(Plain, "x", &[b'a'; 1_000]));
    let large = large.field(Indexed, ":path", KEPT);
    let pieces = [
        frame(kind::HEADERS, END_STREAM, 1, &large.0[..9_000]),
        frame(kind::CONTINUATION, END_HEADERS, 1, &large.0[9_000..]),
    ];
    let many = (0..101).fold(Block::get(), |block, _| block.field(Plain, "x", b"")).field(Indexed, ":path", KEPT);
    let trailers = Block::default().field(Indexed, "expect", b"x");
    let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let others: Vec<u8> = (0..8)
        .flat_map(|number| frame(kind::HEADERS, END_HEADERS, 2 * number + 1, &request("POST", "/body-size", &[])))
        .collect();
    let give_up = [1, 3].map(|stream: u32| frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())).concat();
    let of = |what, bytes, stream, then| Row { stream, ..row("4.3", what, bytes, Then::Answers(then)) };
    vec![
        of("a field kept by a request that is malformed", then(block(malformed)), 3, 404),
        of("by one whose headers are too large (431)", then(pieces.concat()), 3, 404),
        of("by one of too many fields (431)", then(block(many)), 3, 404),
        of("by one for another host (400)", then(block(keeping().field(Plain, "host", b"other"))), 3, 404),
        of("by one that the client has reset", then([block(keeping()), reset].concat()), 3, 404),
        of(
            "by one that is refused (REFUSED_STREAM)",
            [others, headers(17, &keeping().0), give_up, headers(19, &at(FIRST).0)].concat(),
            19,
            404,
        ),
        of(
            "by trailers",
            [open(&[]), data(0, b"x"), headers(1, &trailers.0), headers(3, &Block(get("/hello")).index(FIRST).0)]
                .concat(),
            3,
            417,
        ),
    ]
}

/// What Huffman's code hides does not get by (RFC 9113, section 8.2.1).
fn hidden() -> Vec<Row> {
    let value = |value: &[u8]| count(|block| block.named(Plain, 0).text(b"x").huffman(value));
    vec![
        other(
            "8.2.1",
            "a name in upper case, in Huffman's code",
            count(|block| block.named(Plain, 0).huffman(b"X-Upper").text(b"y")),
            Then::Ends(1),
            AS_HPACK,
        ),
        other("8.2.1", "a value with a line feed, in Huffman's code", value(b"y\nz: 1"), Then::Ends(1), AS_HPACK),
        other("8.2.1", "a value with a carriage return, in Huffman's code", value(b"y\rz: 1"), Then::Ends(1), AS_HPACK),
        other("8.2.1", "a value with NUL, in Huffman's code", value(b"y\0"), Then::Ends(1), AS_HPACK),
        row("8.2.2", "`transfer-encoding` of the static table", count(|block| block.index(57)), Then::Resets(1)),
        row("8.3", "`:status` of the static table", count(|block| block.index(8)), Then::Resets(1)),
        row("8.3.1", "an empty block of fields", headers(1, &fields(&[])), Then::Resets(1)),
    ]
}

pub fn hpack() -> Vec<Row> {
    [kept, hidden, wrong, right].into_iter().flat_map(|rows| rows()).collect()
}
