//! Heads of HTTP that were read before: see `callgate.transport.http.known_heads`, whose `body_start` this is.

/// Digits of a Content-Length that are read here.
const DIGITS: usize = 9;

/// The body, if `data` is a head of these two halves, before and after its Content-Length's digits, and one whole body.
pub fn body<'a>(before: &[u8], after: &[u8], data: &'a [u8]) -> Option<&'a [u8]> {
    let rest = data.strip_prefix(before)?;
    let stop = rest.iter().take(DIGITS + 1).position(|&byte| byte == b'\r')?;
    let digits = &rest[..stop];
    let body = rest[stop..].strip_prefix(after)?;
    // Digits that anybody could read differently (a sign, a leading zero) are not the plain ones.
    (itoa::Buffer::new().format(body.len()).as_bytes() == digits).then_some(body)
}
