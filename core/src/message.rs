//! The two messages of the plainest exchange, and their forms.

use crate::json::{Form, Limits, Reader, Tag};

/// Members of `_meta` whose value is of no consequence to the gate: only that it is there, and of what type.
const PASSING: [&[u8]; 4] = [b"progressToken", b"traceparent", b"tracestate", b"baggage"];

pub struct Call {
    pub id: i64,
    pub unusual: bool,
}

pub struct Answer {
    pub id: i64,
    pub unusual: bool,
}

/// A request with a method, a name and arguments; `form` gets what its judgement depends on.
pub fn call(raw: &[u8], limits: Limits, form: &mut Form) -> Option<Call> {
    let mut reader = Reader::new(raw, limits);
    let mut id = None;
    let (mut version, mut method, mut name, mut arguments) = (false, false, false, false);
    form.clear();
    reader.take(b'{')?;
    reader.members(|reader, member| {
        match member {
            b"jsonrpc" => version = reader.string()? == b"2.0",
            b"id" => id = Some(reader.integer()?),
            b"method" => {
                let text = reader.name()?;
                form.tag(Tag::Method)?;
                form.text(text)?;
                method = true;
            }
            b"params" => {
                reader.take(b'{')?;
                form.tag(Tag::Params)?;
                reader.members(|reader, member| match member {
                    b"name" => {
                        let text = reader.name()?;
                        form.tag(Tag::Name)?;
                        form.text(text)?;
                        name = true;
                        Some(())
                    }
                    b"arguments" => {
                        if reader.peek()? != b'{' {
                            return None;
                        }
                        form.tag(Tag::Arguments)?;
                        arguments = true;
                        reader.value(form, 2)
                    }
                    b"_meta" => {
                        form.tag(Tag::Meta)?;
                        reader.take(b'{')?;
                        reader.members(|reader, member| {
                            form.text(member)?;
                            if PASSING.contains(&member) {
                                reader.value(form, 3)
                            } else {
                                reader.verbatim(form, 3)
                            }
                        })?;
                        form.tag(Tag::End)
                    }
                    _ => None,
                })?;
            }
            _ => return None,
        }
        Some(())
    })?;
    if !(reader.ended() && version && method && name && arguments) {
        return None;
    }
    Some(Call { id: id?, unusual: reader.unusual })
}

/// An answer that is a tool's result: blocks of text, and what else is in it by form. What was asked belongs behind it.
pub fn answer(raw: &[u8], limits: Limits, form: &mut Form) -> Option<Answer> {
    let mut reader = Reader::new(raw, limits);
    let mut id = None;
    let (mut version, mut content) = (false, false);
    form.clear();
    reader.take(b'{')?;
    reader.members(|reader, member| {
        match member {
            b"jsonrpc" => version = reader.string()? == b"2.0",
            b"id" => id = Some(reader.integer()?),
            b"result" => {
                reader.take(b'{')?;
                form.tag(Tag::Result)?;
                reader.members(|reader, member| {
                    form.text(member)?;
                    match member {
                        b"content" => {
                            content = true;
                            reader.take(b'[')?;
                            form.tag(Tag::Content)?;
                            reader.items(block)
                        }
                        b"resultType" => reader.verbatim(form, 2),
                        _ => reader.value(form, 2),
                    }
                })?;
                form.tag(Tag::End)?;
            }
            _ => return None,
        }
        Some(())
    })?;
    if !(reader.ended() && version && content) {
        return None;
    }
    Some(Answer { id: id?, unusual: reader.unusual })
}

/// One block with a type and a text, and nothing else.
fn block(reader: &mut Reader) -> Option<()> {
    let mut members = 0;
    reader.take(b'{')?;
    reader.members(|reader, member| {
        if member != b"type" && member != b"text" {
            return None;
        }
        members += 1;
        reader.string().map(|_| ())
    })?;
    (members == 2).then_some(())
}
