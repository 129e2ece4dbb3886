//! The header that a TCP balancer puts in front of a connection's bytes to name the client: HAProxy's PROXY protocol, versions
//! 1 and 2. Pure. Sections are those of HAProxy's doc/proxy-protocol.txt (of 2020-03-05).
//!
//! A listener either requires the header of every connection or of none (section 2: nobody may guess). What may be read in one
//! way or another is refused, with one exception: `::ffff:192.0.2.1`, which is how C libraries write such an address, so how
//! balancers send it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header in bytes. Section 2 counts on 536, but certificates and names of TLS clients make more of it; nginx takes as
/// much as this.
pub(crate) const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Longest line of version 1, its end included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// How a line of version 1 begins.
const TEXT: &[u8] = b"PROXY ";
/// How a header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 2 before its addresses.
const FIXED_BYTES: usize = 16;
/// The type of the field with the header's checksum (section 2.2.3).
const CHECKSUM: u8 = 3;

/// What is known of a header after some of a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// It may be one; there are not enough bytes yet.
    Incomplete,
    /// It is none, or not a valid one, whatever follows: the connection ends.
    Invalid(&'static str),
    /// It is there.
    Complete {
        /// Bytes of the header. The connection's own bytes are behind them.
        bytes_used: usize,
        /// The client; none: the balancer speaks for itself, or does not know, and the address of the connection counts.
        client: Option<SocketAddr>,
    },
}

/// Reads the header at the beginning of what a connection has sent so far.
pub(crate) fn read(bytes: &[u8]) -> ProxyHeader {
    let read = if begins(bytes, TEXT) {
        read_text(bytes)
    } else if begins(bytes, SIGNATURE) {
        read_binary(bytes)
    } else {
        Err("the connection does not begin with a PROXY header (section 2.2)")
    };
    match read {
        Ok(Some((bytes_used, client))) => ProxyHeader::Complete { bytes_used, client },
        Ok(None) => ProxyHeader::Incomplete,
        Err(reason) => ProxyHeader::Invalid(reason),
    }
}

/// The header's bytes and the client; none: there are not enough bytes yet.
type HeaderStep = Result<Option<(usize, Option<SocketAddr>)>, &'static str>;

/// Whether the bytes begin in this way, as far as there are any.
fn begins(bytes: &[u8], way: &[u8]) -> bool {
    let length = bytes.len().min(way.len());
    bytes[..length] == way[..length]
}

/// Version 1 (section 2.1).
fn read_text(bytes: &[u8]) -> HeaderStep {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        let is_too_long = line.len() == LINE_BYTES_MAX;
        return if is_too_long { Err("the line has more than 107 bytes (section 2.1)") } else { Ok(None) };
    };
    match line[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if line.len() < LINE_BYTES_MAX => return Ok(None),
        [b'\r'] => return Err("the line has more than 107 bytes (section 2.1)"),
        _ => return Err("the line does not end with CR LF (section 2.1)"),
    }
    // Longer than `TEXT`, which has no such end.
    let text = &line[TEXT.len()..end];
    Ok(Some((end + 2, client_of(text)?)))
}

/// The client of a line, of which this stands between `PROXY ` and the end.
fn client_of(text: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let mut words = text.split(|byte| *byte == b' ').map(|word| std::str::from_utf8(word).unwrap_or_default());
    let mut word = || words.next().unwrap_or_default();
    let read_address: fn(&str) -> Option<IpAddr> = match word() {
        "TCP4" => |text| text.parse().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse().ok().map(IpAddr::V6),
        // What else the line says is not looked at.
        "UNKNOWN" => return Ok(None),
        _ => return Err("the protocol is not TCP4, TCP6 or UNKNOWN (section 2.1)"),
    };
    let mut address = || read_address(word()).ok_or("an address is not valid for the protocol (section 2.1)");
    let (source, _) = (address()?, address()?);
    let mut port = || port(word()).ok_or("a port is not valid (section 2.1)");
    let (source_port, _) = (port()?, port()?);
    match words.next() {
        None => Ok(Some(SocketAddr::new(source, source_port))),
        Some(_) => Err("the line goes on behind the ports (section 2.1)"),
    }
}

/// A port in decimal digits, without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Version 2 (section 2.2).
fn read_binary(bytes: &[u8]) -> HeaderStep {
    let Some(&command) = bytes.get(12) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ if command >> 4 != 2 => return Err("the version is not 2 (section 2.2)"),
        _ => return Err("the command is not LOCAL or PROXY (section 2.2)"),
    };
    let Some(&kind) = bytes.get(13) else { return Ok(None) };
    if !is_local && (kind >> 4 > 3 || kind & 15 > 2) {
        return Err("the address family or the protocol is not specified (section 2.2)");
    }
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES) else { return Ok(None) };
    let bytes_used = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if bytes_used > PROXY_HEADER_BYTES_MAX {
        return Err("the header has more than 4096 bytes");
    }
    let addresses_bytes = match kind {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // Of a family or protocol that the balancer does not know, nobody knows the addresses' length.
        _ => 0,
    };
    if !is_local && bytes_used < FIXED_BYTES + addresses_bytes {
        return Err("the header is too short for its addresses (section 2.2)");
    }
    let Some(header) = bytes.get(..bytes_used) else { return Ok(None) };
    if is_local || addresses_bytes == 0 {
        return Ok(Some((bytes_used, None)));
    }
    let (addresses, fields) = header[FIXED_BYTES..].split_at(addresses_bytes);
    check_fields(header, fields)?;
    let client = match (kind, addresses) {
        (0x11, &[a, b, c, d, _, _, _, _, high, low, ..]) => {
            Some((IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
        }
        (0x21, addresses) => {
            let source = addresses.first_chunk().map(|bytes: &[u8; 16]| Ipv6Addr::from(*bytes));
            let port = addresses.get(32..34).and_then(<[u8]>::first_chunk).map(|port| u16::from_be_bytes(*port));
            source.map(IpAddr::V6).zip(port)
        }
        // UDP and Unix sockets, which no client of a TCP listener uses: as if unknown.
        _ => None,
    };
    Ok(Some((bytes_used, client.map(SocketAddr::from))))
}

/// Checks the fields behind the addresses: each is whole, and the checksum is right if there is one. Nothing else is read.
fn check_fields(header: &[u8], mut fields: &[u8]) -> Result<(), &'static str> {
    let mut found = None;
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (Some(value), Some(behind)) = (rest.get(..length), rest.get(length..)) else {
            return Err("a field is longer than the header (section 2.2)");
        };
        if *kind == CHECKSUM && found.replace((header.len() - rest.len(), value)).is_some() {
            return Err("there are two checksums (section 2.2.3)");
        }
        fields = behind;
    }
    if !fields.is_empty() {
        return Err("a field is longer than the header (section 2.2)");
    }
    let is_right = |(place, value): (usize, &[u8])| *value == checksum(header, place).to_be_bytes();
    if found.is_none_or(is_right) { Ok(()) } else { Err("the checksum is wrong (section 2.2.3)") }
}

/// CRC-32C (RFC 4960, appendix B) of a header with zeros for the four bytes at `place`. Bit by bit: few headers have one.
fn checksum(header: &[u8], place: usize) -> u32 {
    let bytes = header.iter().enumerate().map(|(at, byte)| if (place..place + 4).contains(&at) { 0 } else { *byte });
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(bytes_used: usize, client: Option<&str>) -> ProxyHeader {
        ProxyHeader::Complete { bytes_used, client: client.map(|client| client.parse().expect("an address")) }
    }

    fn is_invalid(bytes: &[u8]) -> bool {
        matches!(read(bytes), ProxyHeader::Invalid(_))
    }

    /// A header of version 2.
    fn binary(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a length").to_be_bytes();
        [SIGNATURE, &[command, kind], &length, rest].concat()
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).expect("a length").to_be_bytes(), value].concat()
    }

    /// Puts the checksum into a header that ends with a field for it.
    fn sealed(mut header: Vec<u8>) -> Vec<u8> {
        let place = header.len() - 4;
        let sum = checksum(&header, place).to_be_bytes();
        header[place..].copy_from_slice(&sum);
        header
    }

    const ADDRESSES_4: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB];

    fn addresses_6() -> Vec<u8> {
        let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
        [&address(1)[..], &address(2)[..], &[0xDC, 0x04, 0x01, 0xBB]].concat()
    }

    #[test]
    fn lines_of_version_1_name_the_client() {
        let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {all} {all} 65535 65535\r\n");
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        let long_6 = format!("PROXY TCP6 {all} {all} 65535 65535\r\n");
        let client_6 = format!("[{all}]:65535");
        for (line, client) in [
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1:56324")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0:0")),
            ("PROXY TCP6 2001:DB8::1 ::1 4 5\r\n", Some("[2001:db8::1]:4")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4 5\r\n", Some("[::ffff:192.0.2.1]:4")),
            (&long_6, Some(&*client_6)),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN \r\n", None),
            ("PROXY UNKNOWN anything at  all\r\n", None),
            (&longest, None),
        ] {
            assert_eq!(read(line.as_bytes()), complete(line.len(), client), "{line}");
            let with_request = format!("{line}GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n");
            assert_eq!(read(with_request.as_bytes()), complete(line.len(), client), "{line}");
        }
    }

    #[test]
    fn lines_that_are_not_exactly_so_are_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1  2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
            "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
            "PROXY TCP4\r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY UNKNOWN\r\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.004 1 2\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP6 ::1 ::1::2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 00 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 2\r\n",
        ] {
            assert!(is_invalid(line.as_bytes()), "{line:?}: {:?}", read(line.as_bytes()));
        }
        assert!(is_invalid(b"PROXY TCP4 1.2.3.4 1.2.3.4\xC2\xA01 2\r\n"), "a space of another kind");
        let mut long = [b'a'; LINE_BYTES_MAX];
        long[..14].copy_from_slice(b"PROXY UNKNOWN ");
        assert_eq!(read(&long[..LINE_BYTES_MAX - 1]), ProxyHeader::Incomplete);
        assert!(is_invalid(&long));
        long[LINE_BYTES_MAX - 1] = b'\r';
        assert!(is_invalid(&long));
    }

    #[test]
    fn headers_of_version_2_name_the_client() {
        let with = |fields: &[u8]| [&ADDRESSES_4[..], fields].concat();
        let names = [field(1, b"h2"), field(2, b"a.test"), field(4, &[0; 5]), field(0x20, &[7; 40])].concat();
        let summed = sealed(binary(0x21, 0x11, &with(&[names.clone(), field(CHECKSUM, &[0; 4])].concat())));
        let largest = with(&field(0xE0, &vec![1; PROXY_HEADER_BYTES_MAX - FIXED_BYTES - 12 - 3]));
        let client_4 = Some("192.168.0.1:56324");
        for (header, client) in [
            (binary(0x21, 0x11, &ADDRESSES_4), client_4),
            (binary(0x21, 0x11, &with(&names)), client_4),
            (summed, client_4),
            (binary(0x21, 0x11, &largest), client_4),
            (binary(0x21, 0x21, &addresses_6()), Some("[2001:db8::1]:56324")),
            (binary(0x21, 0x12, &ADDRESSES_4), None),
            (binary(0x21, 0x22, &addresses_6()), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
            (binary(0x21, 0x32, &[b'/'; 216]), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x21, 0x00, b"whatever"), None),
            (binary(0x21, 0x01, &ADDRESSES_4), None),
            (binary(0x21, 0x10, &ADDRESSES_4), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &ADDRESSES_4), None),
            (binary(0x20, 0x11, b"short"), None),
            (binary(0x20, 0xFF, b"whatever"), None),
        ] {
            assert_eq!(read(&header), complete(header.len(), client), "{header:02x?}");
            assert_eq!(read(&[&header[..], b"\x16\x03\x01"].concat()), complete(header.len(), client), "{header:02x?}");
        }
    }

    #[test]
    fn headers_of_version_2_that_are_not_valid_are_refused() {
        let with = |fields: &[u8]| [&ADDRESSES_4[..], fields].concat();
        let sum = field(CHECKSUM, &[0; 4]);
        let mut broken = sealed(binary(0x21, 0x11, &with(&sum)));
        broken[FIXED_BYTES] ^= 1;
        let twice = binary(0x21, 0x11, &with(&[sum.clone(), sum].concat()));
        assert_eq!(read(&twice), ProxyHeader::Invalid("there are two checksums (section 2.2.3)"));
        for header in [
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            b"\r\nGET / HTTP/1.1\r\n".to_vec(),
            binary(0x11, 0x11, &ADDRESSES_4),
            binary(0x31, 0x11, &ADDRESSES_4),
            binary(0x22, 0x11, &ADDRESSES_4),
            binary(0x2F, 0x11, &ADDRESSES_4),
            binary(0x21, 0x41, &ADDRESSES_4),
            binary(0x21, 0x13, &ADDRESSES_4),
            binary(0x21, 0x11, &ADDRESSES_4[..11]),
            binary(0x21, 0x11, &[]),
            binary(0x21, 0x21, &ADDRESSES_4),
            binary(0x21, 0x31, &addresses_6()),
            binary(0x21, 0x11, &with(&[4])),
            binary(0x21, 0x11, &with(&[4, 0])),
            binary(0x21, 0x11, &with(&[4, 0, 1])),
            binary(0x21, 0x11, &with(&[4, 0xFF, 0xFF, 0])),
            binary(0x21, 0x11, &with(&field(CHECKSUM, &[0; 4]))),
            binary(0x21, 0x11, &with(&field(CHECKSUM, &[0; 3]))),
            binary(0x21, 0x11, &with(&field(CHECKSUM, &[]))),
            broken,
            [SIGNATURE, &[0x20, 0x00, 0x0F, 0xF1]].concat(),
        ] {
            assert!(is_invalid(&header), "{header:02x?}: {:?}", read(&header));
        }
        assert_eq!(read(&[SIGNATURE, &[0x20, 0x00, 0x0F, 0xF0]].concat()), ProxyHeader::Incomplete, "4096 bytes");
    }

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        // (RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counting.)
        let zeros = [0; 32];
        assert_eq!(checksum(&zeros, 64), 0x8A91_36AA);
        assert_eq!(checksum(&[0xFF; 32], 64), 0x62A8_AB43);
        let counting: Vec<u8> = (0..32).collect();
        assert_eq!(checksum(&counting, 64), 0x46DD_794E);
        let mut other = zeros;
        other[4..8].fill(9);
        assert_eq!(checksum(&other, 4), 0x8A91_36AA, "the checksum's own bytes count as zeros");
    }

    /// Bytes that come near to a header, and what they are if they are a valid one.
    fn headers() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
        let sockets = || (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
        let fields = || prop::collection::vec((4..=255_u8, prop::collection::vec(any::<u8>(), 0..30)), 0..4);
        let ports = || any::<u16>();
        prop_oneof![
            sockets().prop_flat_map(move |client| (ports(), Just(client))).prop_map(|(port, client)| {
                let name = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let (ip, from) = (client.ip(), client.port());
                (format!("PROXY {name} {ip} {ip} {from} {port}\r\n").into_bytes(), Some(client))
            }),
            "[ -~]{0,91}".prop_map(|rest| (format!("PROXY UNKNOWN {rest}\r\n").into_bytes(), None)),
            (sockets(), ports(), fields(), any::<bool>()).prop_map(|(client, port, fields, is_summed)| {
                let mut rest = match client.ip() {
                    IpAddr::V4(ip) => ip.octets().repeat(2),
                    IpAddr::V6(ip) => ip.octets().repeat(2),
                };
                rest.extend(client.port().to_be_bytes());
                rest.extend(port.to_be_bytes());
                rest.extend(fields.iter().flat_map(|(kind, value)| field(*kind, value)));
                let kind = if client.is_ipv4() { 0x11 } else { 0x21 };
                let header = if is_summed {
                    rest.extend(field(CHECKSUM, &[0; 4]));
                    sealed(binary(0x21, kind, &rest))
                } else {
                    binary(0x21, kind, &rest)
                };
                (header, Some(client))
            }),
        ]
    }

    /// Whatever can be read of the bytes, it is the same for however many of them there are.
    fn check_pieces(bytes: &[u8]) -> Result<(), TestCaseError> {
        let mut known = ProxyHeader::Incomplete;
        for length in 0..=bytes.len() {
            let found = read(&bytes[..length]);
            prop_assert!(known == ProxyHeader::Incomplete || found == known, "{length}: {known:?}, then {found:?}");
            if let (ProxyHeader::Incomplete, ProxyHeader::Complete { bytes_used, .. }) = (known, found) {
                prop_assert_eq!(bytes_used, length, "known as soon as it is there, and not before");
            }
            known = found;
        }
        prop_assert!(known != ProxyHeader::Incomplete || bytes.len() < PROXY_HEADER_BYTES_MAX, "it always ends");
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read((header, client) in headers(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
            let bytes_used = header.len();
            let bytes = [header, behind].concat();
            prop_assert_eq!(read(&bytes), ProxyHeader::Complete { bytes_used, client });
            check_pieces(&bytes)?;
        }

        #[test]
        fn a_changed_header_is_read_alike_in_pieces(
            (mut header, _) in headers(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            for (at, byte) in changes {
                let at = at.index(header.len());
                header[at] = byte;
            }
            check_pieces(&header)?;
        }

        #[test]
        fn any_bytes_are_read_alike_in_pieces(
            begin in prop::sample::select(vec![&b""[..], TEXT, b"PROXY TCP4 ", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            check_pieces(&[begin, &rest].concat())?;
        }

        #[test]
        fn a_header_with_a_checksum_is_whole_or_refused(
            client in (any::<[u8; 4]>(), any::<u16>()),
            place in any::<prop::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let (ip, port) = client;
            let rest = [&ip[..], &ip, &port.to_be_bytes(), &[0, 80], &field(CHECKSUM, &[0; 4])].concat();
            let mut header = sealed(binary(0x21, 0x11, &rest));
            // Behind the head, which says how much there is.
            let place = FIXED_BYTES + place.index(12);
            header[place] ^= change;
            prop_assert!(is_invalid(&header));
        }
    }
}
