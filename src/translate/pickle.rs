//! Pickles of every protocol (0 to 5) as data: an instruction that would import or call something is kept as what it says,
//! and never done. No recursion; steps, nodes and the memo are bounded.
//!
//! The instructions are those of Python's `pickletools`. A pickle that breaks off or is wrong gives what had been read.

mod memo;
mod scalar;

use super::value::{Heap, Node, Value};
use memo::Memo;
use scalar::{date, datetime, integer, latin1, long, octets, unescaped, unquoted};

/// Values put on the stack; a record of Python's logging needs about a hundred.
const MOST_STEPS: usize = 250_000;
const MOST_NODES: usize = 50_000;
/// What a copy of a text counts as.
const OCTETS_A_STEP: usize = 8;

#[derive(Debug)]
pub struct Pickle {
    pub heap: Heap,
    pub value: Value,
    /// It came to its STOP.
    pub is_whole: bool,
    /// So many things would have been imported or called.
    pub foreign: usize,
}

/// Reads a pickle; None where nothing of it is any data.
pub fn read(bytes: &[u8]) -> Option<Pickle> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let (value, is_whole) = match machine.run() {
        Ok(value) => (value, true),
        Err(Wrong) => (machine.salvage()?, false),
    };
    Some(Pickle { value, heap: machine.heap, is_whole, foreign: machine.foreign })
}

#[derive(Debug)]
struct Wrong;

type Step<T = ()> = Result<T, Wrong>;

#[derive(Default)]
struct Machine<'b> {
    /// What is left of the pickle.
    bytes: &'b [u8],
    stack: Vec<Value>,
    /// Where on the stack the marks are.
    marks: Vec<usize>,
    memo: Memo,
    heap: Heap,
    steps: usize,
    foreign: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Step<Value> {
        loop {
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
            if self.steps > MOST_STEPS || self.heap.len() > MOST_NODES {
                return Err(Wrong);
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            // PROTO, FRAME: nothing that is needed.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push(self.stack.last().ok_or(Wrong)?.clone()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' | b'L' | b'F' | b'J' | b'K' | b'M' | b'G' | 0x8A | 0x8B => self.number(opcode)?,
            b'S' | b'V' | b'T' | b'U' | b'X' | b'B' | b'C' | 0x8C | 0x8D | 0x8E | 0x96 => self.text(opcode)?,
            b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.memo(opcode)?,
            b']' => self.node(Node::List(Vec::new())),
            b'}' => self.node(Node::Dict(Vec::new())),
            b')' => self.node(Node::Tuple(Vec::new())),
            0x8F => self.node(Node::Set(Vec::new())),
            b'l' | b't' | b'd' | 0x91 | 0x85 | 0x86 | 0x87 => self.collect(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(opcode)?,
            _ => self.call(opcode)?,
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Value::Int(i64::from(self.take(1)?[0])),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'F' => Value::Float(self.line()?.trim().parse().map_err(|_| Wrong)?),
            b'I' => match self.line()? {
                // Protocol 1 has no other booleans.
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => integer(digits)?,
            },
            b'L' => integer(self.line()?.trim_end_matches('L'))?,
            0x8A => {
                let length = usize::from(self.take(1)?[0]);
                long(self.take(length)?)
            }
            _ => {
                let length = self.length4()?;
                long(self.take(length)?)
            }
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'S' => octets(&unquoted(self.line()?)?),
            b'V' => Value::Text(unescaped(self.line_bytes()?).into()),
            _ => {
                let length = match opcode {
                    b'U' | b'C' | 0x8C => usize::from(self.take(1)?[0]),
                    b'T' | b'X' | b'B' => self.length4()?,
                    _ => usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| Wrong)?,
                };
                let is_text = matches!(opcode, b'X' | 0x8C | 0x8D);
                let bytes = self.take_or_rest(length)?;
                match opcode {
                    _ if is_text => Value::Text(match std::str::from_utf8(bytes) {
                        Ok(text) => text.into(),
                        Err(_) => String::from_utf8_lossy(bytes).into(),
                    }),
                    // The strings of Python 2.
                    b'T' | b'U' => octets(bytes),
                    _ => Value::Bytes(bytes.into()),
                }
            }
        };
        self.push(value);
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Step {
        let at = match opcode {
            b'g' | b'p' => self.line()?.parse().map_err(|_| Wrong)?,
            b'h' | b'q' => u64::from(self.take(1)?[0]),
            b'j' | b'r' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.count,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value = self.memo.get(at).ok_or(Wrong)?.clone();
            self.push(value);
        } else {
            self.steps += 1;
            self.memo.insert(at, self.stack.last().ok_or(Wrong)?.clone());
        }
        Ok(())
    }

    /// What is on top becomes one node.
    fn collect(&mut self, opcode: u8) -> Step {
        let count = match opcode {
            0x85..=0x87 => Some(usize::from(opcode - 0x84)),
            _ => None,
        };
        let items = match count {
            Some(count) => {
                let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor()).ok_or(Wrong)?;
                self.stack.split_off(from)
            }
            None => self.pop_mark()?,
        };
        self.node(match opcode {
            b'l' => Node::List(items),
            b'd' => Node::Dict(pairs(items)),
            0x91 => Node::Set(items),
            _ => Node::Tuple(items),
        });
        Ok(())
    }

    /// What is on top goes into the node below it.
    fn extend(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.stack.last().filter(|_| self.stack.len() > self.floor()).ok_or(Wrong)?.clone();
        match self.heap.node_mut(&target).ok_or(Wrong)? {
            Node::List(list) | Node::Set(list) => list.extend(items),
            Node::Dict(entries) => entries.extend(pairs(items)),
            // A subclass of list or dict: its items are part of what is shown.
            Node::Call { .. } => {
                let items = if matches!(opcode, b's' | b'u') { Node::Dict(pairs(items)) } else { Node::List(items) };
                let items = self.heap.add(items);
                if let Some(Node::Call { state, .. }) = self.heap.node_mut(&target) {
                    *state = Some(items);
                }
                return Ok(());
            }
            _ => return Err(Wrong),
        }
        Ok(())
    }

    /// Imports and calls.
    fn call(&mut self, opcode: u8) -> Step {
        match opcode {
            b'c' => {
                let module = self.line()?.into();
                let name = self.line()?.into();
                self.node(Node::Global { module, name });
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else { return Err(Wrong) };
                self.node(Node::Global { module, name });
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.called(callable, arguments);
            }
            0x92 => {
                let (named, arguments) = (self.pop()?, self.pop()?);
                let callable = self.pop()?;
                self.called(callable, arguments);
                self.build(named)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            b'i' => {
                let module = self.line()?.into();
                let name = self.line()?.into();
                let callable = self.heap.add(Node::Global { module, name });
                let arguments = self.pop_mark()?;
                let arguments = self.heap.add(Node::Tuple(arguments));
                self.called(callable, arguments);
            }
            b'o' => {
                let mut items = self.pop_mark()?;
                if items.is_empty() {
                    return Err(Wrong);
                }
                let callable = items.remove(0);
                let arguments = self.heap.add(Node::Tuple(items));
                self.called(callable, arguments);
            }
            _ => self.outside(opcode)?,
        }
        Ok(())
    }

    /// Persistent ids, registered extensions and buffers mean something to their makers alone.
    fn outside(&mut self, opcode: u8) -> Step {
        match opcode {
            b'P' => {
                let id = self.line()?.into();
                self.foreign += 1;
                self.push(Value::Shown(id));
            }
            b'Q' => self.foreign += 1,
            0x82..=0x84 => {
                let code = self.take([1, 2, 4][usize::from(opcode - 0x82)])?.to_vec();
                self.foreign += 1;
                self.push(Value::Bytes(code.into()));
            }
            // NEXT_BUFFER, READONLY_BUFFER: what stands outside of the pickle.
            0x97 => self.push(Value::None),
            0x98 => {}
            _ => return Err(Wrong),
        }
        Ok(())
    }

    fn called(&mut self, callable: Value, arguments: Value) {
        match self.known(&callable, &arguments) {
            Some(value) => self.push(value),
            None => {
                self.foreign += 1;
                self.node(Node::Call { callable, arguments, state: None });
            }
        }
    }

    fn build(&mut self, with: Value) -> Step {
        let target = self.stack.last().ok_or(Wrong)?.clone();
        if let Some(Node::Call { state, .. }) = self.heap.node_mut(&target) {
            *state = Some(with);
        }
        Ok(())
    }

    /// What Python's own types make of plain data, and no more.
    fn known(&mut self, callable: &Value, arguments: &Value) -> Option<Value> {
        let Some(Node::Global { module, name }) = self.heap.node(callable) else { return None };
        let (arguments, is_list) = (self.heap.items(arguments)?, &**name == "list");
        match (&**module, &**name, arguments) {
            // Bytes, before protocol 3.
            ("_codecs", "encode", [Value::Text(text), Value::Text(codec)]) if &**codec == "latin1" => {
                self.steps += text.len() / OCTETS_A_STEP;
                latin1(text)
            }
            ("builtins" | "__builtin__", "bytearray", [Value::Text(text), Value::Text(codec)]) if &**codec == "latin-1" => {
                self.steps += text.len() / OCTETS_A_STEP;
                latin1(text)
            }
            ("builtins" | "__builtin__", "bytes", []) => Some(Value::Bytes([].into())),
            ("builtins" | "__builtin__", "set" | "frozenset" | "list", [items]) => {
                let items = self.heap.items(items)?.to_vec();
                // A copy costs what it holds.
                self.steps += items.len();
                Some(self.heap.add(if is_list { Node::List(items) } else { Node::Set(items) }))
            }
            ("builtins" | "__builtin__", "bytearray", [bytes @ Value::Bytes(_)]) => Some(bytes.clone()),
            ("collections", "OrderedDict", []) => Some(self.heap.add(Node::Dict(Vec::new()))),
            ("decimal", "Decimal", [Value::Text(digits)]) => Some(Value::Text(digits.clone())),
            ("datetime", "datetime", [Value::Bytes(bytes), ..]) if arguments.len() == 1 => datetime(bytes),
            ("datetime", "date", [Value::Bytes(bytes)]) => date(bytes),
            _ => None,
        }
    }

    /// What had been read when it broke off: the dict at the bottom, with the pairs that were to go into it.
    fn salvage(&mut self) -> Option<Value> {
        let bottom = self.stack.first()?.clone();
        let Some(Node::Dict(entries)) = self.heap.node_mut(&bottom) else { return None };
        let rest = self.stack.iter().skip(1).cloned().collect();
        entries.extend(pairs(rest));
        Some(bottom)
    }

    fn push(&mut self, value: Value) {
        self.steps += 1;
        self.stack.push(value);
    }

    fn node(&mut self, node: Node) {
        let value = self.heap.add(node);
        self.push(value);
    }

    /// Nothing below the last mark is anybody's.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Value> {
        if self.stack.len() <= self.floor() {
            return Err(Wrong);
        }
        self.stack.pop().ok_or(Wrong)
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or(Wrong)?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, count: usize) -> Step<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Wrong)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A text that was cut is better than none.
    fn take_or_rest(&mut self, count: usize) -> Step<&[u8]> {
        let count = if self.bytes.is_empty() && count > 0 { return Err(Wrong) } else { count.min(self.bytes.len()) };
        self.take(count)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Wrong)
    }

    fn length4(&mut self) -> Step<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn line_bytes(&mut self) -> Step<&[u8]> {
        let end = memchr::memchr(b'\n', self.bytes).ok_or(Wrong)?;
        let line = self.take(end + 1)?;
        Ok(&line[..end])
    }

    fn line(&mut self) -> Step<&str> {
        std::str::from_utf8(self.line_bytes()?).map_err(|_| Wrong)
    }
}

/// One that is left over has no key or no value.
fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
}

/// The property of a fuzz target: any bytes are read or refused in bounded time, and what was read is valid JSON.
///
/// # Panics
/// When the property does not hold.
pub fn must_not_panic(bytes: &[u8]) {
    const MOST: usize = 64 << 10;
    if let Some(pickle) = read(bytes) {
        let (mut json, mut repr) = (Vec::new(), Vec::new());
        pickle.heap.json(&pickle.value, MOST, &mut json);
        pickle.heap.repr(&pickle.value, MOST, &mut repr);
        assert!(pickle.heap.len() <= MOST_NODES + 2);
        assert!(json.len() <= 8 * (MOST + bytes.len()) && repr.len() <= 8 * (MOST + bytes.len()));
        if std::str::from_utf8(&json).is_ok() {
            serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("JSON");
        }
    }
}
