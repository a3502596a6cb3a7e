//! What came of an evaluation.

use std::fmt::Write as _;

use crate::eval::Evaluation;
use crate::value::{Function, Value};
use crate::words::entity_name;
use crate::world::{Subject, Table, World};

/// `{"values": […], "host": {…}, "guests": {NAME: {…}}, "errors": […]}` in one line. Integers are written exactly, floats so
/// that they read the same, those that JSON does not know as texts.
pub fn write(evaluation: &Evaluation, world: &World) -> String {
    let mut out = Writer { text: String::new(), world };
    out.text.push_str("{\"values\":");
    out.list(&evaluation.values);
    out.text.push_str(",\"host\":");
    out.subject(&world.host);
    out.text.push_str(",\"guests\":{");
    for (n, guest) in world.guests.iter().enumerate() {
        out.comma(n);
        out.string(&guest.name);
        out.text.push(':');
        out.subject(guest);
    }
    out.text.push_str("},\"errors\":[");
    for (n, error) in evaluation.errors.iter().enumerate() {
        out.comma(n);
        out.text.push_str("{\"guest\":");
        out.string(&error.guest);
        out.text.push_str(",\"message\":");
        out.string(&error.trouble.message);
        out.text.push_str(",\"file\":");
        out.string(&error.trouble.place.file);
        out.print(format_args!(
            ",\"line\":{},\"column\":{}}}",
            error.trouble.place.line, error.trouble.place.column
        ));
    }
    out.text.push_str("]}");
    out.text
}

struct Writer<'a> {
    text: String,
    world: &'a World,
}

impl Writer<'_> {
    /// Writing to a String cannot fail.
    fn print(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(what);
    }

    fn comma(&mut self, n: usize) {
        if n > 0 {
            self.text.push(',');
        }
    }

    fn subject(&mut self, subject: &Subject) {
        self.text.push_str("{\"controls\":");
        self.table(&subject.controls);
        self.text.push_str(",\"variables\":");
        self.table(&subject.variables);
        self.text.push('}');
    }

    fn table(&mut self, table: &Table) {
        self.text.push('{');
        for (n, (name, value)) in table.iter().enumerate() {
            self.comma(n);
            self.string(name);
            self.text.push(':');
            self.value(value);
        }
        self.text.push('}');
    }

    fn list(&mut self, values: &[Value]) {
        self.text.push('[');
        for (n, value) in values.iter().enumerate() {
            self.comma(n);
            self.value(value);
        }
        self.text.push(']');
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Nil => self.text.push_str("null"),
            Value::Bool(value) => self.print(format_args!("{value}")),
            Value::Int(value) => self.print(format_args!("{value}")),
            Value::Big(value) => self.print(format_args!("{value}")),
            Value::Float(value) if value.is_nan() => self.text.push_str("\"nan\""),
            Value::Float(value) if value.is_infinite() => {
                self.text.push_str(if *value > 0.0 { "\"inf\"" } else { "\"-inf\"" });
            }
            Value::Float(value) => self.print(format_args!("{value:?}")),
            Value::Text(text) => self.string(text),
            Value::List(list) => self.list(list.items()),
            Value::Entity(entity) => self.string(&format!("<{}>", entity_name(*entity, self.world))),
            Value::Method(entity, method) => {
                self.string(&format!("<{}.{}>", entity_name(*entity, self.world), method.name()));
            }
            Value::Function(Function::Abs) => self.string("<abs>"),
            Value::Function(Function::Debug) => self.string("<debug>"),
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\t' => self.text.push_str("\\t"),
                '\r' => self.text.push_str("\\r"),
                control if control < ' ' => self.print(format_args!("\\u{:04x}", u32::from(control))),
                plain => self.text.push(plain),
            }
        }
        self.text.push('"');
    }
}
