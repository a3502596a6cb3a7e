//! Runs a program once over a [`World`].
//!
//! Total: each value costs a step, what is made costs memory, nesting has a limit; whoever exceeds a budget gets an error at
//! its place. What goes wrong while a guest's turn in `with` is evaluated concerns that guest alone.

mod calls;
mod forms;
mod guests;

use crate::limits::Limits;
use crate::program::Program;
use crate::scopes::Scopes;
use crate::source::{At, Place};
use crate::syntax::{Name, Node, NodeId};
use crate::value::{Entity, Value};
use crate::world::{Field, World};

/// Why a program, or a guest's turn in it, came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub place: Place,
    /// Why, in words.
    pub message: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Trouble {}

/// A guest's turn that failed; what it proposed and what it should remember is as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTrouble {
    /// Its name.
    pub guest: std::sync::Arc<str>,
    /// What happened.
    pub trouble: Trouble,
}

/// What an evaluation came to, beside what it changed in its [`World`].
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The values at the top of the program, in order.
    pub values: Vec<Value>,
    /// Guests whose turn failed, in order.
    pub errors: Vec<GuestTrouble>,
}

/// An error on its way up.
#[derive(Debug)]
pub(crate) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    at: At,
    message: String,
    /// A budget of the whole evaluation is spent: there is no next guest.
    spent: bool,
}

type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    #[cold]
    pub(crate) fn new(at: At, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { at, message: message.into(), spent: false }))
    }

    #[cold]
    fn spent(at: At, message: String) -> Self {
        Self(Box::new(Inner { at, message, spent: true }))
    }
}

/// A function of the policy.
#[derive(Clone, Copy, Debug)]
struct Defined {
    parameters: NodeId,
    body: NodeId,
}

/// One evaluation.
struct Run<'a> {
    program: &'a Program,
    world: &'a mut World,
    limits: &'a Limits,
    scopes: Scopes,
    /// By name.
    functions: Vec<Option<Defined>>,
    /// Fields of the world by the names that attributes have here.
    fields: Vec<Option<Field>>,
    steps: u64,
    memory: u64,
    depth: u32,
    logged: usize,
    undone: guests::Originals,
    out: Evaluation,
}

/// Evaluates a program once. After an error the world is as far as the program came, and worth nothing but for what `debug`
/// logged until then.
pub fn evaluate(
    program: &Program,
    world: &mut World,
    limits: &Limits,
) -> std::result::Result<Evaluation, Trouble> {
    let mut run = Run::new(program, world, limits);
    for id in program.syntax.top() {
        match run.top(*id) {
            Ok(value) => run.out.values.push(value),
            Err(fault) => return Err(run.trouble(fault)),
        }
    }
    run.end();
    Ok(run.out)
}

impl<'a> Run<'a> {
    fn new(program: &'a Program, world: &'a mut World, limits: &'a Limits) -> Self {
        let names = program.syntax.names();
        let fields =
            program.attributes.iter().map(|name| name.as_ref().and_then(|n| world.known(n))).collect();
        let mut run = Self {
            program,
            limits,
            scopes: Scopes::new(names),
            functions: vec![None; names],
            fields,
            steps: limits.steps,
            memory: limits.memory,
            depth: 0,
            logged: 0,
            undone: guests::Originals::new(world.guests.len()),
            out: Evaluation::default(),
            world,
        };
        run.globals();
        run
    }

    fn globals(&mut self) {
        let guests = (0..self.world.guests.len()).filter_map(|n| u32::try_from(n).ok());
        let guests = guests.map(|n| Value::Entity(Entity::Guest(n))).collect();
        // One level of nesting is always allowed.
        let guests = crate::ops::list(guests).unwrap_or(Value::Nil);
        self.scopes.bind(self.program.host, Value::Entity(Entity::Host));
        self.scopes.bind(self.program.guests, guests);
        for (name, function) in self.program.functions {
            self.scopes.bind(name, Value::Function(function));
        }
    }

    fn top(&mut self, id: NodeId) -> Result<Value> {
        let value = self.value(id)?;
        // It will be written.
        self.made(self.program.syntax.at(id), &value)?;
        Ok(value)
    }

    fn trouble(&self, fault: Fault) -> Trouble {
        Trouble { place: self.program.text.place(fault.0.at), message: fault.0.message }
    }

    /// What a value of the program comes to.
    fn value(&mut self, id: NodeId) -> Result<Value> {
        let program = self.program;
        self.work(1, program.syntax.at(id))?;
        match program.syntax.node(id) {
            Node::Constant(value) => Ok(value.clone()),
            Node::Symbol(name) if *name == program.nil => Ok(Value::Nil),
            Node::Symbol(name) => match self.scopes.get(*name) {
                Some(value) => Ok(value.clone()),
                None => Err(self.undefined(id, *name)),
            },
            Node::Dotted { whole, base, attribute } => {
                self.attribute(id, *base, *attribute)?.ok_or_else(|| self.undefined(id, *whole))
            }
            Node::Operator(name) => {
                let sign = crate::lex::sign_of(program.syntax.text(*name)).unwrap_or_default();
                Err(Fault::new(program.syntax.at(id), format!("the sign {sign} stands where a value is due")))
            }
            Node::List { from, length } => {
                if self.depth >= self.limits.depth {
                    let message = format!("evaluation is nested deeper than {}", self.limits.depth);
                    return Err(Fault::new(program.syntax.at(id), message));
                }
                self.depth = self.depth.saturating_add(1);
                let value = self.call(id, program.syntax.parts(*from, *length));
                self.depth = self.depth.saturating_sub(1);
                value
            }
        }
    }

    #[cold]
    fn undefined(&self, id: NodeId, name: Name) -> Fault {
        let name = crate::words::shown(self.program.syntax.text(name));
        Fault::new(self.program.syntax.at(id), format!("undefined symbol {name}"))
    }

    /// So much work is done.
    #[inline]
    fn work(&mut self, steps: u64, at: At) -> Result<()> {
        if let Some(left) = self.steps.checked_sub(steps) {
            self.steps = left;
            return Ok(());
        }
        Err(Fault::spent(at, format!("the budget of {} steps is spent", self.limits.steps)))
    }

    /// A value was made, or will be written once more.
    fn made(&mut self, at: At, value: &Value) -> Result<()> {
        self.take_memory(at, value.weight())
    }

    fn take_memory(&mut self, at: At, bytes: u64) -> Result<()> {
        if let Some(left) = self.memory.checked_sub(bytes) {
            self.memory = left;
            return Ok(());
        }
        Err(Fault::spent(at, format!("the budget of {} bytes of memory is spent", self.limits.memory)))
    }
}
