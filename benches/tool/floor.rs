//! The least that any server must do: receive, and append what came to one file.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use penstock::sys::datagram::Receiver;
use penstock::sys::socket::grow_receive_buffer;

use crate::{Listen, Outcome, streams};

/// The same as penstock's inputs ask for.
const RECEIVE_BUFFER: usize = 32 << 20;

#[derive(Args)]
pub struct Arguments {
    file: PathBuf,
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    Tcp(Listen),
    Udp { address: String },
    UnixDatagram { path: PathBuf },
}

pub fn run(arguments: &Arguments) -> Outcome {
    let file = OpenOptions::new().create(true).append(true).open(&arguments.file)?;
    match &arguments.from {
        From::Tcp(listen) => streams::serve(listen, move |lines| (&file).write_all(lines)),
        From::Udp { address } => datagrams(UdpSocket::bind(address)?.into(), file),
        From::UnixDatagram { path } => datagrams(UnixDatagram::bind(path)?.into(), file),
    }
}

fn datagrams(socket: OwnedFd, file: File) -> Outcome {
    grow_receive_buffer(socket.as_fd(), RECEIVE_BUFFER)?;
    let mut receiver = Receiver::default();
    loop {
        match receiver.receive(socket.as_fd()) {
            Ok(count) => append(&receiver, count, &file)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket.as_fd())?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn append(receiver: &Receiver, count: usize, mut file: &File) -> io::Result<()> {
    let texts = (0..count).map(|i| receiver.datagram(i)).map(|slot| &receiver.arena()[slot.start..][..slot.length]);
    let mut slices: Vec<_> = texts.flat_map(|text| [IoSlice::new(text), IoSlice::new(b"\n")]).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = file.write_vectored(rest)?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

fn wait(socket: BorrowedFd<'_>) -> io::Result<()> {
    crate::latency::readable(socket, -1).map(drop)
}
