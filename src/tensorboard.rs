//! Writes event files, which `TensorBoard` plots.
//!
//! A file is a sequence of records: length (u64), its checksum (u32), the bytes, their checksum (u32), all little-endian.
//! A checksum is CRC-32C, rotated and offset. The bytes are one message `Event` of Protocol Buffers, of which these fields
//! are written:
//!
//! ```text
//! Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
//! Summary { repeated Value value = 1; }
//! Value   { string tag = 1; float simple_value = 2; }
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::files::append_to_file;

/// File format version, stored in the first record of a file.
const FILE_VERSION: &str = "brain.Event:2";

/// Wire type of a field: the lower three bits of its key.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// A Protocol Buffers message. Fields are written in the order of their numbers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// Append a varint: seven bits per byte, lowest first; the high bit means that more bytes follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire: Wire) {
        self.varint(field << 3 | wire as u64);
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, Wire::Fixed64);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, Wire::Fixed32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Append an integer; 0, the default value, is omitted.
    fn integer(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.key(field, Wire::Varint);
            self.varint(value);
        }
        self
    }

    /// Append a string or an embedded message.
    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, Wire::Bytes);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

/// CRC-32C, masked so that checksums of data that contains checksums remain reliable.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xA282_EAD8)
}

/// An event file open for writing.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventLog {
    /// Create `events.out.tfevents.<seconds>.kiln` in `folder`, which is created if necessary. `wall_time` is the Unix time in
    /// seconds. If a file of the same second exists, it is appended to: `TensorBoard` reads all files in a folder as one log,
    /// in the order of their names.
    pub fn create(folder: &Path, wall_time: f64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        // Ten digits, as in other programs, so that names sort by time.
        let path = folder.join(format!("events.out.tfevents.{:010}.kiln", wall_time as u64));
        let file = append_to_file(&path)?;
        let mut log = Self {
            path,
            file: BufWriter::new(file),
        };
        let event = Message::default()
            .double(1, wall_time)
            .bytes(3, FILE_VERSION.as_bytes());
        log.record(&event)?;
        log.flush()?;
        Ok(log)
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Log one point of the curve `tag`; the part of the tag before a `/` groups curves. `wall_time` is
    /// the Unix time in seconds.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f32) -> io::Result<()> {
        let value = Message::default().bytes(1, tag.as_bytes()).float(2, value);
        let summary = Message::default().bytes(1, &value.0);
        let event = Message::default()
            .double(1, wall_time)
            .integer(2, step)
            .bytes(5, &summary.0);
        self.record(&event)
    }

    /// Flush buffered records to the file, so that `TensorBoard` sees them.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn record(&mut self, event: &Message) -> io::Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.0.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event.0);
        record.extend(masked_crc(&event.0).to_le_bytes());
        self.file.write_all(&record)
    }
}
