//! Event files, read back by a reader that shares nothing with the writer, and compared with `TensorBoard`'s own bytes.

use kiln::tensorboard::EventLog;
use tempfile::TempDir;

const TIME: f64 = 1_700_000_000.25;

/// Compute a CRC-32C bit by bit, with the reflected polynomial of Castagnoli.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

/// Take `n` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(n);
    *bytes = rest;
    front
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Return the records of a file, after unmasking and verifying their checksums.
fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let unmasked = |crc: &[u8]| u32_of(crc).wrapping_sub(0xA282_EAD8).rotate_left(15);
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = take(&mut file, 8);
        assert_eq!(unmasked(take(&mut file, 4)), crc32c(length));
        let record = take(&mut file, usize::try_from(u64_of(length)).unwrap());
        assert_eq!(unmasked(take(&mut file, 4)), crc32c(record));
        records.push(record);
    }
    records
}

#[derive(Debug, PartialEq)]
enum Field<'a> {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Return the fields of a message with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Integer(varint(&mut message)),
            1 => Field::Double(f64::from_bits(u64_of(take(&mut message, 8)))),
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                Field::Bytes(take(&mut message, length))
            }
            5 => Field::Float(f32::from_bits(u32_of(take(&mut message, 4)))),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// Return the only field of a message, which contains bytes.
fn inner(message: &[u8], number: u64) -> &[u8] {
    match fields(message)[..] {
        [(n, Field::Bytes(bytes))] if n == number => bytes,
        ref other => panic!("{other:?}"),
    }
}

fn check_version(record: &[u8]) {
    let expected = [
        (1, Field::Double(TIME)),
        (3, Field::Bytes(b"brain.Event:2")),
    ];
    assert_eq!(fields(record), expected);
}

/// Check that a record is the point (`step`, `value`) of the curve `tag`.
fn check_scalar(record: &[u8], tag: &str, step: u64, wall_time: f64, value: f32) {
    let event = fields(record);
    let summary = match &event[..] {
        [
            (1, Field::Double(time)),
            (2, Field::Integer(s)),
            (5, Field::Bytes(summary)),
        ] => {
            assert_eq!((*time, *s), (wall_time, step));
            summary
        }
        [(1, Field::Double(time)), (5, Field::Bytes(summary))] => {
            assert_eq!((*time, 0), (wall_time, step));
            summary
        }
        other => panic!("{other:?}"),
    };
    let expected = [(1, Field::Bytes(tag.as_bytes())), (2, Field::Float(value))];
    assert_eq!(fields(inner(summary, 1)), expected);
}

#[test]
fn checksums_are_those_of_castagnoli() {
    // RFC 3720, B.4: 32 bytes of zeros, of ones, and counting up.
    let counting: Vec<u8> = (0..32).collect();
    let checksums = [&[0; 32], &[0xFF; 32], &counting[..]].map(crc32c);
    assert_eq!(checksums, [0x8A91_36AA, 0x62A8_AB43, 0x46DD_794E]);
}

#[test]
fn logged_scalars_are_read_back() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("runs/lego");
    let long = "loss/".repeat(60);
    let points = [
        ("train/psnr", 0, TIME, 0.0),
        ("train/psnr", 127, TIME + 0.5, -31.5),
        ("Größe", 128, TIME + 1.0, f32::MIN_POSITIVE),
        (&long, u64::from(u32::MAX) + 1, TIME + 2.0, f32::INFINITY),
    ];
    let mut log = EventLog::create(&folder, TIME).unwrap();
    let path = folder.join("events.out.tfevents.1700000000.kiln");
    assert_eq!(log.path(), path);
    // A reader sees the version immediately.
    check_version(records(&std::fs::read(&path).unwrap())[0]);
    for (tag, step, wall_time, value) in points {
        log.scalar(tag, step, wall_time, value).unwrap();
    }
    log.flush().unwrap();

    let file = std::fs::read(&path).unwrap();
    let read = records(&file);
    assert_eq!(read.len(), 1 + points.len());
    check_version(read[0]);
    for (record, (tag, step, wall_time, value)) in read[1..].iter().zip(points) {
        check_scalar(record, tag, step, wall_time, value);
    }

    // If a run is resumed within the same second, nothing is lost.
    let mut log = EventLog::create(&folder, TIME).unwrap();
    log.scalar("train/psnr", 129, TIME, 32.0).unwrap();
    drop(log);
    let longer = std::fs::read(&path).unwrap();
    assert!(longer.starts_with(&file));
    let added = records(&longer[file.len()..]);
    check_version(added[0]);
    check_scalar(added[1], "train/psnr", 129, TIME, 32.0);
}

/// The expected bytes are those of `TensorBoard`'s `RecordWriter`.
#[test]
fn a_record_has_the_bytes_that_tensorboard_gives_it() {
    let folder = TempDir::new().unwrap();
    let mut log = EventLog::create(folder.path(), TIME).unwrap();
    log.scalar("train/psnr", 300, TIME, 31.5).unwrap();
    log.flush().unwrap();
    let file = std::fs::read(log.path()).unwrap();
    let (version, scalar) = file.split_at(file.len() - 49);
    assert_eq!(version.len(), 40);
    let expected = [
        0x21, 0, 0, 0, 0, 0, 0, 0, // length
        0x01, 0x7B, 0xEC, 0xF6, // its checksum
        0x09, 0x00, 0x00, 0x10, 0x40, 0xFC, 0x54, 0xD9, 0x41, // wall_time
        0x10, 0xAC, 0x02, // step
        0x2A, 0x13, 0x0A, 0x11, // summary, value
        0x0A, 0x0A, b't', b'r', b'a', b'i', b'n', b'/', b'p', b's', b'n', b'r', // tag
        0x15, 0x00, 0x00, 0xFC, 0x41, // simple_value
        0xD1, 0xE8, 0xE8, 0xF2, // checksum
    ];
    assert_eq!(scalar, expected);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(EventLog::create(&file.join("logs"), TIME).is_err());
}
