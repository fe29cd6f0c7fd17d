//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::checked;

/// The largest payload of UDP over IPv4 is 65507 octets; unix datagrams may be longer and are cut here.
const LONGEST: usize = 65536;
/// From slot to slot: not a power of two, or all the first bytes would share one set of the cache.
const STRIDE: usize = LONGEST + 192;
/// Datagrams given to one sendmmsg.
const SENT_AT_ONCE: usize = 256;

/// Room for one SCM_CREDENTIALS, aligned as a cmsghdr, and for nothing else: descriptors that a sender adds are closed by the kernel.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CREDENTIALS]);

/// CMSG_SPACE(sizeof(struct ucred)).
const CREDENTIALS: usize = size_of::<libc::cmsghdr>() + size_of::<libc::ucred>().next_multiple_of(8);

/// Who has sent a datagram, as the kernel says (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The buffers of one reader. The pages of a slot come into being when a datagram needs them.
pub struct Receiver {
    arena: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    addresses: Vec<libc::sockaddr_storage>,
    /// Empty where nobody asks for credentials.
    controls: Vec<Control>,
}

/// What one slot holds after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where in the arena.
    pub start: usize,
    pub length: usize,
    /// None for a unix socket.
    pub peer: Option<IpAddr>,
    /// The datagram was longer than its slot.
    pub truncated: bool,
    pub credentials: Option<Credentials>,
}

impl Default for Receiver {
    fn default() -> Self {
        const COUNT: usize = Receiver::COUNT;
        // SAFETY: all three are plain C structs for which all-zero is a valid value.
        let (headers, vectors, addresses) = unsafe { (vec![zeroed(); COUNT], vec![zeroed(); COUNT], vec![zeroed(); COUNT]) };
        Self { arena: vec![0; COUNT * STRIDE], headers, vectors, addresses, controls: Vec::new() }
    }
}

impl Receiver {
    /// Datagrams a call.
    pub const COUNT: usize = 64;

    /// The same for a unix socket, with the credentials of each sender.
    pub fn with_credentials() -> Self {
        Self { controls: vec![Control([0; CREDENTIALS]); Self::COUNT], ..Self::default() }
    }

    /// Receives what waits, without blocking; how many datagrams.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.prepare();
        // SAFETY: `prepare` has pointed every header at memory that `self` owns and that nobody else uses during the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                Self::COUNT as u32,
                libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
                ptr::null_mut(),
            )
        };
        checked(count).map(|count| count as usize)
    }

    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Slot `i` of the last [`Receiver::receive`].
    pub fn datagram(&self, i: usize) -> Received {
        let header = &self.headers[i];
        Received {
            start: i * STRIDE,
            length: (header.msg_len as usize).min(LONGEST),
            peer: address(&self.addresses[i]),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            credentials: self.credentials(i),
        }
    }

    fn prepare(&mut self) {
        for (i, header) in self.headers.iter_mut().enumerate() {
            let start = self.arena[i * STRIDE..].as_mut_ptr();
            self.vectors[i] = libc::iovec { iov_base: start.cast(), iov_len: LONGEST };
            self.addresses[i].ss_family = 0;
            let message = &mut header.msg_hdr;
            message.msg_name = ptr::from_mut(&mut self.addresses[i]).cast();
            message.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            message.msg_iov = &mut self.vectors[i];
            message.msg_iovlen = 1;
            message.msg_flags = 0;
            if let Some(control) = self.controls.get_mut(i) {
                message.msg_control = control.0.as_mut_ptr().cast();
                message.msg_controllen = size_of::<Control>();
            }
        }
    }

    fn credentials(&self, i: usize) -> Option<Credentials> {
        self.controls.get(i)?;
        let header = &self.headers[i].msg_hdr;
        // SAFETY: the header's control buffer is `self.controls[i]`, aligned, and as long as the kernel says it has filled it.
        let control = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
        if (control.cmsg_level, control.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) {
            return None;
        }
        // SAFETY: by its type the data are a ucred; it need not be aligned as one.
        let found: libc::ucred = unsafe { ptr::read_unaligned(libc::CMSG_DATA(control).cast()) };
        Some(Credentials { pid: u32::try_from(found.pid).ok()?, uid: found.uid, gid: found.gid })
    }
}

fn address(storage: &libc::sockaddr_storage) -> Option<IpAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel says by the family that this is a sockaddr_in, which fits into the storage.
            let v4 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: likewise for sockaddr_in6.
            let v6 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            Some(IpAddr::from(Ipv6Addr::from(v6.sin6_addr.s6_addr)).to_canonical())
        }
        _ => None,
    }
}

/// Sends datagrams on a connected socket, without blocking; how many of them went.
pub fn send<'d>(socket: BorrowedFd<'_>, datagrams: impl Iterator<Item = &'d [u8]>) -> io::Result<usize> {
    let mut vectors: Vec<libc::iovec> = datagrams
        .take(SENT_AT_ONCE)
        .map(|bytes| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: all-zero is a valid mmsghdr: no address, no control data.
            let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    // SAFETY: the headers point at `vectors`, those at the callers' bytes; all outlive the call, and the kernel only reads.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    checked(sent).map(|sent| sent as usize)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn datagrams_of_all_sizes_go_and_come_whole() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.connect(receiver.local_addr().expect("an address")).expect("loopback");
        let texts = [vec![b'a'; 1], Vec::new(), vec![b'b'; 65507]];
        assert_eq!(send(sender.as_fd(), texts.iter().map(Vec::as_slice)).expect("sent"), 3);
        let mut slots = Receiver::default();
        let mut got = Vec::new();
        while got.len() < 3 {
            let count = slots.receive(receiver.as_fd()).expect("received");
            got.extend((0..count).map(|i| slots.datagram(i)).map(|d| slots.arena()[d.start..d.start + d.length].to_vec()));
            assert_eq!(slots.datagram(0).peer, Some(IpAddr::from([127, 0, 0, 1])));
        }
        assert_eq!(got, texts);
    }
}
