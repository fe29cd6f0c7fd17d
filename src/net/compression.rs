//! zstd (RFC 8878) in one direction of a connection: what is packed is flushed, and what is unpacked is bounded.

use std::io;

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, Operation};

/// Memory that each side keeps for what was said before: 512 KiB. More saves little on logs.
const WINDOW_LOG: u32 = 19;
const LEVEL: i32 = 3;
/// Grown by so much while more comes.
const STEP: usize = 16 << 10;

pub struct Packer(Encoder<'static>);

impl Packer {
    pub fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self(encoder))
    }

    /// Appends all that the other side needs to have these bytes.
    pub fn pack(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            let (read, _) = grow(out, STEP, |room| {
                self.0.run_on_buffers(bytes, room).map(|status| (status.bytes_read, status.bytes_written))
            })?;
            bytes = &bytes[read..];
        }
        loop {
            let (left, _) = grow(out, STEP, |room| {
                let mut buffer = zstd::stream::raw::OutBuffer::around(room);
                let left = self.0.flush(&mut buffer)?;
                Ok((left, buffer.pos()))
            })?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

pub struct Unpacker {
    decoder: Decoder<'static>,
    /// What has come and is not unpacked; its beginning up to `at` is.
    packed: Vec<u8>,
    at: usize,
    /// The last step filled its room: there is more without another byte.
    more: bool,
}

impl Unpacker {
    pub fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self { decoder, packed: Vec::new(), at: 0, more: false })
    }

    /// What comes is put behind this.
    pub fn packed(&mut self) -> &mut Vec<u8> {
        self.packed.drain(..std::mem::take(&mut self.at));
        &mut self.packed
    }

    /// Appends at most so many bytes; how many. 0: more has to come first.
    pub fn unpack(&mut self, most: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        while self.at < self.packed.len() || self.more {
            let (read, written) = grow(out, most, |room| {
                let status = self.decoder.run_on_buffers(&self.packed[self.at..], room)?;
                Ok((status.bytes_read, status.bytes_written))
            })?;
            self.at += read;
            self.more = written == most;
            if written > 0 {
                return Ok(written);
            }
            if read == 0 {
                break;
            }
        }
        Ok(0)
    }
}

/// Has so many bytes of room behind what is there written to; what is not written goes again. The second of what is
/// returned is how many were.
fn grow<T>(out: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut [u8]) -> io::Result<(T, usize)>) -> io::Result<(T, usize)> {
    let start = out.len();
    out.resize(start + room, 0);
    let result = write(&mut out[start..]);
    out.truncate(start + result.as_ref().map_or(0, |(_, written)| *written));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_at_once_however_it_is_cut() {
        let (mut packer, mut unpacker) = (Packer::new().expect("memory"), Unpacker::new().expect("memory"));
        let (mut sent, mut received, mut wire) = (Vec::new(), Vec::new(), 0);
        for round in 0..50 {
            let text: String = (0..round * 7).map(|i| format!("<14>1 - host app - - - message {i} of {round}\n")).collect();
            let mut packed = Vec::new();
            packer.pack(text.as_bytes(), &mut packed).expect("packed");
            wire += packed.len();
            sent.extend_from_slice(text.as_bytes());
            for part in packed.chunks(11) {
                unpacker.packed().extend_from_slice(part);
                while unpacker.unpack(100, &mut received).expect("unpacked") > 0 {}
            }
            assert!(received == sent, "round {round}");
        }
        assert!(wire * 4 < sent.len(), "{wire} of {}", sent.len());
    }

    #[test]
    fn a_stream_that_wants_more_memory_is_refused_and_a_bomb_comes_out_bit_by_bit() {
        let mut encoder = Encoder::new(1).expect("memory");
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG + 1)).expect("allowed");
        let mut packed = vec![0; 1 << 20];
        let status = encoder.run_on_buffers(&vec![b'x'; 4 << 20], &mut packed).expect("packed");
        packed.truncate(status.bytes_written);
        let mut unpacker = Unpacker::new().expect("memory");
        unpacker.packed().extend_from_slice(&packed);
        assert!(unpacker.unpack(1 << 10, &mut Vec::new()).is_err());

        let (mut packer, mut unpacker, mut bomb) = (Packer::new().expect("memory"), Unpacker::new().expect("memory"), Vec::new());
        packer.pack(&vec![b'x'; 64 << 20], &mut bomb).expect("packed");
        assert!(bomb.len() < 64 << 10);
        unpacker.packed().extend_from_slice(&bomb);
        let (mut out, mut total) = (Vec::new(), 0);
        loop {
            out.clear();
            match unpacker.unpack(1 << 10, &mut out).expect("unpacked") {
                0 => break,
                count => total += count,
            }
            assert!(out.len() <= 1 << 10);
        }
        assert_eq!(total, 64 << 20);
    }
}
