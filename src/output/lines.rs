//! Records written one after the other to something that knows no records: a pipe, the input of a program.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::queue::{Chunk, State};

/// Where it is in what it writes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Octets of the first pending record that are out already.
    written: usize,
    /// The last line has no end, and gets none.
    is_cut: bool,
}

impl Lines {
    /// Writes the pending records and settles each that is out. Dropping the future breaks off between two writes.
    pub(super) async fn write(&mut self, chunk: &mut Chunk, sink: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while let Some(run) = chunk.first_run() {
            if self.is_cut {
                sink.write_all(b"\n").await?;
                self.is_cut = false;
            }
            let at = run.bytes.start as usize + self.written;
            let count = sink.write(&chunk.bytes[at..run.bytes.end as usize]).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written = chunk.settle_up_to(&run, at + count, State::Delivered);
        }
        Ok(())
    }

    /// What had begun will not be ended.
    pub(super) fn given_up(&mut self) {
        self.is_cut |= std::mem::take(&mut self.written) > 0;
    }

    /// Another reader: what had begun begins anew.
    pub(super) fn anew(&mut self) {
        *self = Self::default();
    }
}
