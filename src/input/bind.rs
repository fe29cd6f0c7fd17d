//! Sockets, bound to the address of an input.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Plan, Transport};
use crate::config::Address;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 4096;

/// `threads` UDP sockets share a port.
pub(super) fn bind(plan: &Plan, threads: usize) -> io::Result<Vec<Socket>> {
    match (&plan.address, plan.transport) {
        (Address::Ip(address), Transport::Datagram) => bind_udp(*address, threads),
        (Address::Ip(address), Transport::Stream) => bind_tcp(*address).map(|socket| vec![socket]),
        (_, Transport::Source) => Ok(Vec::new()),
        (Address::Path(path), transport) => bind_unix(path, transport, plan.permissions).map(|socket| vec![socket]),
    }
}

fn ip_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` means everybody, IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// All on the port that the first one got.
fn bind_udp(address: SocketAddr, threads: usize) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = Vec::new();
    for _ in 0..threads {
        let socket = ip_socket(address, Type::DGRAM, Protocol::UDP)?;
        let address = match sockets.first() {
            Some(first) => first.local_addr()?,
            None => {
                refuse_a_taken_port(address)?;
                address.into()
            }
        };
        socket.set_reuse_port(true)?;
        socket.bind(&address)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// With SO_REUSEPORT two servers of one user would share the port, and each get half of the messages.
fn refuse_a_taken_port(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    ip_socket(address, Type::DGRAM, Protocol::UDP)?.bind(&address.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = ip_socket(address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the last connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A socket that a dead server has left behind is replaced; one that answers, or a file of another kind, is not.
fn bind_unix(path: &Path, transport: Transport, permissions: (u32, Option<u32>, Option<u32>)) -> io::Result<Socket> {
    let kind = match transport {
        Transport::Stream => Type::STREAM,
        _ => Type::DGRAM,
    };
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    if let Err(error) = socket.bind(&address) {
        let abandoned = error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path, kind, &address);
        if !abandoned {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    let (mode, owner, group) = permissions;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, owner, group)?;
    }
    if transport == Transport::Stream {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn is_abandoned(path: &Path, kind: Type, address: &SockAddr) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    let refused = |socket: Socket| socket.connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && Socket::new(Domain::UNIX, kind, None).is_ok_and(refused)
}
