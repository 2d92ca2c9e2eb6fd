//! A reader of JSON that is written as `orjson` writes it, and of nothing else.
//!
//! What it accepts holds no white space, no member twice, no second spelling of a number or a string; so the bytes
//! read are the bytes that serialising the parsed message gives. Whatever it does not accept is not wrong: the
//! parser in Python judges it.

/// How a message may be built. The same limits as in `callgate.config`.
#[derive(Clone, Copy)]
pub struct Limits {
    pub depth: usize,
    pub nodes: usize,
    pub keys: usize,
    pub string_bytes: usize,
    pub name_bytes: usize,
}

/// Members of one object that are told apart by comparing each with each.
const MEMBERS: usize = 32;
/// Digits of an integer that every reader keeps exactly, and that the automaton does not look at.
const DIGITS: usize = 15;
/// Levels that are read here; deeper messages are not plain.
const DEPTH: usize = 24;

/// Bytes of a string that mean themselves and that no pattern looks for.
fn simple(byte: u8) -> bool {
    other(byte) == 0
}

/// 1 for a byte that is not `simple`. Spelt so that many are looked at together: as a signed number, what is not ASCII
/// is below the space, too.
fn other(byte: u8) -> u8 {
    let below = u8::from((byte as i8) < 0x20);
    below | u8::from(byte == 0x7f) | u8::from(byte == b'"') | u8::from(byte == b'\\')
}

pub struct Reader<'a> {
    pub raw: &'a [u8],
    pub at: usize,
    limits: Limits,
    /// Values read, the message itself among them.
    nodes: usize,
    /// Whether a byte was seen that is not ASCII, or DEL: only then can a pattern be found.
    pub unusual: bool,
}

/// What stands in a form beside texts. A text holds no byte below 0x20 and ends in a zero, so no two messages that
/// differ in what their judgement depends on have one form, whatever their names are.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Tag {
    Method = 1,
    Params,
    Name,
    Arguments,
    Meta,
    Result,
    Content,
    Object,
    List,
    End,
    String,
    Integer,
    True,
    False,
    Null,
}

/// What of a message its judgement depends on: names and types, in order.
pub struct Form {
    pub bytes: Vec<u8>,
    /// Longest form worth keeping.
    limit: usize,
}

impl Form {
    pub fn new(limit: usize) -> Self {
        Form { bytes: Vec::with_capacity(limit), limit }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn tag(&mut self, tag: Tag) -> Option<()> {
        if self.bytes.len() >= self.limit {
            return None;
        }
        self.bytes.push(tag as u8);
        Some(())
    }

    /// Text that stands for itself, and its end.
    pub fn text(&mut self, text: &[u8]) -> Option<()> {
        if self.bytes.len() + text.len() + 1 > self.limit {
            return None;
        }
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        Some(())
    }
}

/// The names of one object, to find one that comes twice.
struct Names<'a> {
    seen: [&'a [u8]; MEMBERS],
    count: usize,
}

impl<'a> Names<'a> {
    fn new() -> Self {
        Names { seen: [b""; MEMBERS], count: 0 }
    }

    fn add(&mut self, name: &'a [u8], limits: &Limits) -> Option<()> {
        if self.count >= MEMBERS || self.count >= limits.keys || self.seen[..self.count].contains(&name) {
            return None;
        }
        self.seen[self.count] = name;
        self.count += 1;
        Some(())
    }
}

impl<'a> Reader<'a> {
    pub fn new(raw: &'a [u8], limits: Limits) -> Self {
        Reader { raw, at: 0, limits, nodes: 1, unusual: false }
    }

    pub fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    pub fn take(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    fn node(&mut self) -> Option<()> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return None;
        }
        Some(())
    }

    /// Whether everything has been read.
    pub fn ended(&self) -> bool {
        self.at == self.raw.len()
    }

    /// A string, without its quotes, as it is spelt.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            let rest = self.raw.get(self.at..)?;
            let mut skipped = 0;
            for chunk in rest.chunks_exact(32) {
                if chunk.iter().fold(0, |any, &byte| any | other(byte)) != 0 {
                    break;
                }
                skipped += 32;
            }
            skipped += rest[skipped..].iter().take_while(|&&byte| simple(byte)).count();
            self.at += skipped;
            match self.peek()? {
                b'"' => break,
                // The two-character spellings that are the only ones of these characters.
                b'\\' => {
                    if !matches!(self.raw.get(self.at + 1)?, b'n' | b't' | b'"' | b'\\') {
                        return None;
                    }
                    self.at += 2;
                }
                byte if byte < 0x20 => return None,
                _ => {
                    self.unusual = true;
                    self.at += 1;
                }
            }
        }
        let text = &self.raw[start..self.at];
        self.at += 1;
        if text.len() > self.limits.string_bytes {
            return None;
        }
        Some(text)
    }

    /// A string that stands for a name: neither empty nor too long, and without escapes.
    pub fn name(&mut self) -> Option<&'a [u8]> {
        let text = self.string()?;
        if text.is_empty() || text.len() > self.limits.name_bytes || text.contains(&b'\\') {
            return None;
        }
        Some(text)
    }

    /// An integer that fits a double.
    pub fn integer(&mut self) -> Option<i64> {
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        let start = self.at;
        let mut value: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if self.at - start >= DIGITS {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        let digits = self.at - start;
        if digits == 0 || (digits > 1 && self.raw[start] == b'0') || (negative && value == 0) {
            return None;
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        Some(if negative { -value } else { value })
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if !self.raw.get(self.at..)?.starts_with(word) {
            return None;
        }
        self.at += word.len();
        Some(())
    }

    /// Members of an object, the opening brace already taken: `member` is called for each name, behind its colon.
    pub fn members(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        let mut names = Names::new();
        loop {
            let name = self.string()?;
            names.add(name, &self.limits)?;
            self.take(b':')?;
            self.node()?;
            member(self, name)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Items of a list, the opening bracket already taken.
    pub fn items(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.node()?;
            item(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Any value: its type, and the names and types of what is in it, added to `form`.
    pub fn value(&mut self, form: &mut Form, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.string()?;
                form.tag(Tag::String)
            }
            b'{' => {
                if depth >= DEPTH || depth >= self.limits.depth {
                    return None;
                }
                self.at += 1;
                form.tag(Tag::Object)?;
                self.members(|reader, name| {
                    form.text(name)?;
                    reader.value(form, depth + 1)
                })?;
                form.tag(Tag::End)
            }
            b'[' => {
                if depth >= DEPTH || depth >= self.limits.depth {
                    return None;
                }
                self.at += 1;
                form.tag(Tag::List)?;
                // Items of the same form as the one before say nothing new.
                let (mut before, mut before_end) = (form.bytes.len(), form.bytes.len());
                self.items(|reader| {
                    let start = form.bytes.len();
                    reader.value(form, depth + 1)?;
                    if start > before && form.bytes[start..] == form.bytes[before..before_end] {
                        form.bytes.truncate(start);
                    } else {
                        (before, before_end) = (start, form.bytes.len());
                    }
                    Some(())
                })?;
                form.tag(Tag::End)
            }
            b't' => {
                self.word(b"true")?;
                form.tag(Tag::True)
            }
            b'f' => {
                self.word(b"false")?;
                form.tag(Tag::False)
            }
            b'n' => {
                self.word(b"null")?;
                form.tag(Tag::Null)
            }
            _ => {
                self.integer()?;
                form.tag(Tag::Integer)
            }
        }
    }

    /// A value that stands for itself in the form: its very bytes.
    pub fn verbatim(&mut self, form: &mut Form, depth: usize) -> Option<()> {
        let (start, kept) = (self.at, form.bytes.len());
        self.value(form, depth)?;
        form.bytes.truncate(kept);
        form.text(&self.raw[start..self.at])
    }
}
