//! One record of evidence: the line that `callgate.audit.scope` writes for an allowed message, byte for byte.

use sha2::{Digest, Sha256};

/// Messages of more bytes are digested with BLAKE3. The same as `callgate.audit.scope.LARGE`.
const LARGE: usize = 4096;
pub type Hex = [u8; 64];

pub fn hex(digest: &[u8; 32]) -> Hex {
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
    text
}

/// The hexadecimal digit of a value below 16; by arithmetic, so that many are made together.
fn digit(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

pub fn sha256(data: &[u8]) -> Hex {
    hex(&Sha256::digest(data).into())
}

/// What of a record is not constant.
pub struct Entry<'a> {
    pub about: i64,
    pub head: &'a [u8],
    pub prev: &'a [u8],
    pub rpc_id: i64,
    pub scope: &'a [u8],
    pub seq: i64,
    pub data: &'a [u8],
    pub time_us: i64,
    pub took_us: i64,
}

/// The record's line in `line`, its newline included.
pub fn write(line: &mut Vec<u8>, entry: &Entry) {
    let mut digits = itoa::Buffer::new();
    let mut number = |line: &mut Vec<u8>, value: i64| line.extend_from_slice(digits.format(value).as_bytes());
    let size = entry.data.len();
    let large = size > LARGE;
    let digest = if large { hex(blake3::hash(entry.data).as_bytes()) } else { sha256(entry.data) };
    line.clear();
    line.extend_from_slice(b"{\"about\":");
    number(line, entry.about);
    if large {
        line.extend_from_slice(b",\"blake3\":\"");
        line.extend_from_slice(&digest);
        line.push(b'"');
    }
    line.extend_from_slice(b",\"chain\":");
    line.extend_from_slice(entry.head);
    line.extend_from_slice(b",\"prev\":\"");
    line.extend_from_slice(entry.prev);
    line.extend_from_slice(b"\",\"rpc_id\":");
    number(line, entry.rpc_id);
    line.extend_from_slice(b",\"scope\":");
    line.extend_from_slice(entry.scope);
    line.extend_from_slice(b",\"seq\":");
    number(line, entry.seq);
    if !large {
        line.extend_from_slice(b",\"sha256\":\"");
        line.extend_from_slice(&digest);
        line.push(b'"');
    }
    line.extend_from_slice(b",\"size\":");
    number(line, size as i64);
    line.extend_from_slice(b",\"time\":");
    number(line, entry.time_us);
    line.extend_from_slice(b",\"took_us\":");
    number(line, entry.took_us);
    line.extend_from_slice(b"}\n");
}
