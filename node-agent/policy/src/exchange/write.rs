//! What came of an evaluation.

use std::fmt::Write as _;

use crate::eval::Evaluation;
use crate::value::{Function, Value};
use crate::words::entity_name;
use crate::world::{Field, Subject, Table, World};

/// `{"values": […], "host": {…}, "guests": {NAME: {…}}, "errors": […]}` in one line. Integers are written exactly, floats so
/// that they read the same, those that JSON does not know as texts.
pub fn write(evaluation: &Evaluation, world: &World) -> String {
    let mut out = Writer { text: String::new(), world, floats: Floats::AsTexts };
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

/// A world as [`read`](super::read()) takes it: what a program saw can be given to another one.
pub fn write_world(world: &World) -> String {
    let mut out = Writer { text: String::new(), world, floats: Floats::AsPython };
    let names = world.field_names();
    out.text.push_str("{\"host\":{");
    out.seen(&world.host, &names);
    out.text.push_str("},\"guests\":[");
    for (n, guest) in world.guests.iter().enumerate() {
        out.comma(n);
        out.text.push_str("{\"name\":");
        out.string(&guest.name);
        out.text.push(',');
        out.seen(guest, &names);
        out.text.push('}');
    }
    out.text.push_str("]}");
    out.text
}

/// How floats are written that JSON does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Floats {
    /// `"nan"`, `"inf"`, `"-inf"`.
    AsTexts,
    /// `NaN`, `Infinity`, `-Infinity`.
    AsPython,
}

impl Floats {
    fn word(self, value: f64) -> &'static str {
        match (self, value.is_nan(), value > 0.0) {
            (Self::AsTexts, true, _) => "\"nan\"",
            (Self::AsTexts, false, true) => "\"inf\"",
            (Self::AsTexts, false, false) => "\"-inf\"",
            (Self::AsPython, true, _) => "NaN",
            (Self::AsPython, false, true) => "Infinity",
            (Self::AsPython, false, false) => "-Infinity",
        }
    }
}

struct Writer<'a> {
    text: String,
    world: &'a World,
    floats: Floats,
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

    /// What a program sees of one, without its name.
    fn seen(&mut self, subject: &Subject, names: &[&str]) {
        self.text.push_str("\"properties\":");
        self.table(&subject.properties);
        self.text.push_str(",\"fields\":[");
        let name = |field: &Field| names.get(field.index()).copied().unwrap_or_default();
        for (n, name) in subject.declared().iter().map(name).enumerate() {
            self.comma(n);
            self.string(name);
        }
        self.text.push_str("],\"history\":[");
        for (n, row) in subject.history().enumerate() {
            self.comma(n);
            self.text.push('{');
            for (n, (field, value)) in row.iter().enumerate() {
                self.comma(n);
                self.string(name(field));
                self.text.push(':');
                self.value(value);
            }
            self.text.push('}');
        }
        self.text.push_str("],\"variables\":");
        self.table(&subject.variables);
        self.text.push_str(",\"controls\":");
        self.table(&subject.controls);
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
            Value::Float(value) if !value.is_finite() => self.text.push_str(self.floats.word(*value)),
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
