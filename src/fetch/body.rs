//! The hand-over of a body from an async fetch to a blocking reader.
//!
//! A [`Slot`] owns [`limits::CHUNKS_PER_FETCH`] buffers for as long as it lives; they go round: free, filled by the
//! [`BodyWriter`], queued, with the [`BodyReader`], free. A buffer grows to what bodies need of it, and no further than
//! [`limits::CHUNK_BYTES`]. A slot serves one fetch at a time, while readers of its earlier bodies may still be busy:
//! these hold their buffers until they are through, and the fetch waits for them. What holds: a reader gets every byte
//! that was written before the end or the failure, in order; a side that is dropped wakes the other one.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::aws::{Class, Fault};
use crate::limits;
use crate::pulse::Pulse;

type Buffer = Vec<u8>;

/// The buffers of one fetch at a time.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Pool {
    /// Empty ones, the last used is the last.
    free: Mutex<heapless::Vec<Buffer, { limits::CHUNKS_PER_FETCH }>>,
    /// Something was freed, or the reader of the current body went away.
    freed: Notify,
}

/// The reader let go of the body: there is nobody to write for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReaderGone;

impl Slot {
    /// With buffers that hold nothing yet.
    #[allow(
        clippy::new_without_default,
        reason = "the budget counts what it may come to hold; that should be seen"
    )]
    pub fn new() -> Slot {
        let free = (0..limits::CHUNKS_PER_FETCH).map(|_| Buffer::new()).collect();
        Slot { pool: Arc::new(Pool { free: Mutex::new(free), freed: Notify::new() }), pulse: Arc::default() }
    }

    /// The same, with the pulse of the stage that fetches by it.
    #[must_use]
    pub fn watched(self, pulse: Arc<Pulse>) -> Slot {
        Slot { pulse, ..self }
    }

    /// The pulse of the stage that fetches by it.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// The two ends of one body.
    pub(super) fn open(&mut self) -> (BodyWriter, BodyReader) {
        let state = State { queue: heapless::Deque::new(), end: None, reader_gone: false };
        let exchange = Arc::new(Exchange {
            state: Mutex::new(state),
            changed: Condvar::new(),
            pool: Arc::clone(&self.pool),
        });
        (
            BodyWriter {
                exchange: Arc::clone(&exchange),
                filling: None,
                has_queued: false,
                pulse: Arc::clone(&self.pulse),
            },
            BodyReader { exchange, reading: None, bytes_read: 0 },
        )
    }
}

impl Pool {
    fn take(&self) -> Option<Buffer> {
        locked(&self.free).pop()
    }

    fn give_back(&self, mut buffer: Buffer) {
        buffer.clear();
        // Cannot be full: every buffer comes from here.
        let _ = locked(&self.free).push(buffer);
        self.freed.notify_one();
    }
}

#[derive(Debug)]
struct Exchange {
    state: Mutex<State>,
    changed: Condvar,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct State {
    queue: heapless::Deque<Buffer, { limits::CHUNKS_PER_FETCH }>,
    end: Option<Result<(), Fault>>,
    reader_gone: bool,
}

#[cfg(test)]
impl BodyReader {
    /// A whole body that has arrived, of one buffer at most.
    pub(crate) fn of(bytes: &[u8]) -> BodyReader {
        let (mut writer, reader) = Slot::new().open();
        writer.filling = writer.exchange.pool.take();
        writer.filling.as_mut().expect("a new slot's buffer").extend_from_slice(bytes);
        writer.end(Ok(()));
        reader
    }

    /// A body that comes in chunks. The sender is told when nobody wants more of it.
    pub(crate) fn coming(chunks: std::sync::mpsc::Receiver<Vec<u8>>) -> BodyReader {
        let (mut writer, reader) = Slot::new().open();
        let feed = async move {
            for chunk in chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    match writer.write(rest).await {
                        Ok(taken) => rest = &rest[taken..],
                        Err(ReaderGone) => return,
                    }
                }
            }
            writer.end(Ok(()));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        std::thread::spawn(move || runtime.block_on(feed));
        reader
    }
}

/// The fetching end.
#[derive(Debug)]
pub(super) struct BodyWriter {
    exchange: Arc<Exchange>,
    filling: Option<Buffer>,
    has_queued: bool,
    pulse: Arc<Pulse>,
}

impl BodyWriter {
    /// Takes as many of the bytes as go into one buffer, waiting for a free one first if need be. A buffer
    /// that is full is queued for the reader.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<usize, ReaderGone> {
        let pulse = Arc::clone(&self.pulse);
        pulse.waiting(self.wait_for_buffer()).await?;
        let Some(buffer) = &mut self.filling else { return Ok(0) };
        let taken = bytes.len().min(limits::CHUNK_BYTES - buffer.len());
        let needed = buffer.len() + taken;
        if needed > buffer.capacity() {
            buffer.reserve_exact(needed.next_power_of_two() - buffer.len());
        }
        buffer.extend_from_slice(&bytes[..taken]);
        if buffer.len() == limits::CHUNK_BYTES {
            self.queue();
        }
        Ok(taken)
    }

    /// There is something for the reader.
    pub(super) fn has_queued(&self) -> bool {
        self.has_queued
    }

    /// Forgets what was written since the last queued buffer.
    pub(super) fn clear(&mut self) {
        if let Some(buffer) = &mut self.filling {
            buffer.clear();
        }
    }

    /// The body is whole, or failed: the reader is told after the bytes before.
    pub(super) fn end(&mut self, how: Result<(), Fault>) {
        self.queue();
        locked(&self.exchange.state).end = Some(how);
        self.exchange.changed.notify_one();
    }

    async fn wait_for_buffer(&mut self) -> Result<(), ReaderGone> {
        loop {
            if locked(&self.exchange.state).reader_gone {
                return Err(ReaderGone);
            }
            if self.filling.is_some() {
                return Ok(());
            }
            match self.exchange.pool.take() {
                Some(buffer) => self.filling = Some(buffer),
                None => self.exchange.pool.freed.notified().await,
            }
        }
    }

    fn queue(&mut self) {
        let Some(buffer) = self.filling.take() else { return };
        let mut state = locked(&self.exchange.state);
        if state.reader_gone || buffer.is_empty() {
            drop(state);
            self.exchange.pool.give_back(buffer);
        } else {
            // Cannot be full either.
            let _ = state.queue.push_back(buffer);
            self.has_queued = true;
            self.exchange.changed.notify_one();
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.queue();
        let stopped = || Fault::new(Class::Retry, "stopped", "the fetch was stopped".into());
        locked(&self.exchange.state).end.get_or_insert_with(|| Err(stopped()));
        self.exchange.changed.notify_one();
    }
}

/// The reading end, for a thread that may block.
#[derive(Debug)]
pub struct BodyReader {
    exchange: Arc<Exchange>,
    reading: Option<Buffer>,
    bytes_read: u64,
}

impl BodyReader {
    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next bytes, 1 to [`limits::CHUNK_BYTES`]; blocks until they are there. `None` at the end of a whole body.
    ///
    /// # Errors
    /// When the body could not be fetched to its end. Says the same again when called again.
    #[allow(clippy::should_implement_trait, reason = "the bytes are borrowed from the reader")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, FetchFailed> {
        self.give_back();
        let mut state = locked(&self.exchange.state);
        loop {
            if let Some(buffer) = state.queue.pop_front() {
                self.bytes_read += buffer.len() as u64;
                return Ok(Some(self.reading.insert(buffer)));
            }
            match &state.end {
                Some(Ok(())) => return Ok(None),
                Some(Err(fault)) => return Err(FetchFailed(fault.clone())),
                None => state = self.exchange.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(buffer) = self.reading.take() {
            self.exchange.pool.give_back(buffer);
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.give_back();
        let mut state = locked(&self.exchange.state);
        state.reader_gone = true;
        while let Some(buffer) = state.queue.pop_front() {
            self.exchange.pool.give_back(buffer);
        }
        drop(state);
        self.exchange.pool.freed.notify_one();
    }
}

/// A body that could not be fetched to its end, and why.
#[derive(Debug, Clone)]
pub struct FetchFailed(pub Fault);

impl fmt::Display for FetchFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FetchFailed {}

/// A panic elsewhere leaves these states whole: each change is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    async fn write_all(writer: &mut BodyWriter, mut bytes: &[u8]) -> Result<(), ReaderGone> {
        while !bytes.is_empty() {
            let taken = writer.write(bytes).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn read_all(reader: &mut BodyReader) -> (Vec<u8>, Result<(), FetchFailed>) {
        let mut bytes = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(chunk)) => bytes.extend_from_slice(chunk),
                Ok(None) => return (bytes, Ok(())),
                Err(failed) => return (bytes, Err(failed)),
            }
        }
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn free(slot: &Slot) -> usize {
        locked(&slot.pool.free).len()
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_whatever_the_pieces() {
        let mut slot = Slot::new();
        for (len, piece) in
            [(0, 1), (1, 1), (limits::CHUNK_BYTES, 1000), (5 * limits::CHUNK_BYTES + 7, 40_000)]
        {
            let sent = body(len);
            let (mut writer, mut reader) = slot.open();
            let reading = thread::spawn(move || read_all(&mut reader));
            for piece in sent.chunks(piece) {
                write_all(&mut writer, piece).await.unwrap();
            }
            writer.end(Ok(()));
            let (received, end) = reading.join().unwrap();
            assert!(end.is_ok() && received == sent, "{len} bytes in pieces of {piece}");
            assert_eq!(free(&slot), limits::CHUNKS_PER_FETCH);
        }
    }

    #[tokio::test]
    async fn a_failure_comes_after_the_bytes_before_it_and_stays() {
        let mut slot = Slot::new();
        let (mut writer, mut reader) = slot.open();
        write_all(&mut writer, b"some").await.unwrap();
        writer.end(Err(Fault::new(Class::Retry, "network", "it broke".into())));
        assert_eq!(reader.next().unwrap(), Some(&b"some"[..]));
        assert_eq!(reader.next().unwrap_err().to_string(), "it broke");
        assert_eq!(reader.next().unwrap_err().to_string(), "it broke");
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_is_a_failure() {
        let mut slot = Slot::new();
        let (writer, mut reader) = slot.open();
        let reading = thread::spawn(move || read_all(&mut reader).1);
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap_err().0.cause, "stopped");
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_wakes_a_writer_that_waits_for_room() {
        let mut slot = Slot::new();
        let (mut writer, reader) = slot.open();
        let sent = body((limits::CHUNKS_PER_FETCH + 1) * limits::CHUNK_BYTES);
        let writing = tokio::spawn(async move { write_all(&mut writer, &sent).await });
        while free(&slot) > 0 {
            tokio::task::yield_now().await; // until the writer has filled all there is
        }
        drop(reader);
        assert_eq!(writing.await.unwrap(), Err(ReaderGone));
        assert_eq!(free(&slot), limits::CHUNKS_PER_FETCH);
    }

    #[tokio::test]
    async fn a_slot_serves_its_next_fetch_while_an_earlier_body_still_waits_to_be_read() {
        let mut slot = Slot::new();
        let (mut first, mut first_reader) = slot.open();
        write_all(&mut first, b"first").await.unwrap();
        first.end(Ok(()));
        let (mut second, mut second_reader) = slot.open();
        write_all(&mut second, b"second").await.unwrap();
        second.end(Ok(()));
        assert_eq!(free(&slot), limits::CHUNKS_PER_FETCH - 2);
        assert_eq!(read_all(&mut first_reader).0, b"first");
        assert_eq!(read_all(&mut second_reader).0, b"second");
        assert_eq!(free(&slot), limits::CHUNKS_PER_FETCH);
    }

    #[tokio::test]
    async fn what_was_not_queued_yet_can_be_taken_back() {
        let mut slot = Slot::new();
        let (mut writer, mut reader) = slot.open();
        write_all(&mut writer, b"wrong").await.unwrap();
        writer.clear();
        write_all(&mut writer, b"right").await.unwrap();
        writer.end(Ok(()));
        assert_eq!(read_all(&mut reader).0, b"right");
    }
}
