//! An outgoing TCP connection by `wasi:sockets`, which std::net would use where its libc has it.

use std::net::SocketAddr;

use verbs::Reply;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
};

pub async fn connect(address: &str) -> Reply {
    let Ok(address) = address.parse() else {
        return Reply::text(400, "bad parameter: addr");
    };
    match try_connect(address).await {
        Ok(()) => Reply::text(200, "connected"),
        Err(error) => Reply::text(403, error_name(&error)),
    }
}

async fn try_connect(address: SocketAddr) -> Result<(), ErrorCode> {
    let family = if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
    TcpSocket::create(family)?.connect(to_wasi(address)).await
}

/// As 0.2 names it, for those that are likely here.
fn error_name(error: &ErrorCode) -> String {
    match error {
        ErrorCode::AccessDenied => "access-denied".into(),
        ErrorCode::NotSupported => "not-supported".into(),
        ErrorCode::ConnectionRefused => "connection-refused".into(),
        ErrorCode::Timeout => "timeout".into(),
        other => format!("{other:?}"),
    }
}

fn to_wasi(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: address.port(),
                flow_info: address.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: address.scope_id(),
            })
        }
    }
}
