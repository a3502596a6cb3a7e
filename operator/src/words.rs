//! Errors of the API client for people: the server's own sentence, or the chain of causes, without debug dumps. And what is
//! told on standard output and standard error, whether or not somebody takes it.

use std::error::Error;
use std::io::{self, ErrorKind, Write as _};

/// What went wrong, in one line.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            return format!("{} ({})", status.message.trim(), status.code);
        }
        let text = cause.to_string();
        // Many of them repeat their cause.
        match parts.last_mut() {
            Some(outer) if outer.ends_with(&text) => {}
            _ => parts.push(text),
        }
        next = cause.source();
    }
    parts.join(": ")
}

/// Writes on standard output. Whoever closes the pipe has read enough.
///
/// # Errors
/// When it cannot be written, as on a full disk.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says on standard error why the program ends; where nobody can read it, the exit code says it.
pub(crate) fn complain(why: &str) {
    drop(writeln!(io::stderr(), "overcommit-operator: {why}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let status: kube::core::Status =
            serde_json::from_value(serde_json::json!({ "code": 403, "message": "nodes is forbidden" }))
                .unwrap();
        assert_eq!(words(&kube::Error::Api(status.boxed())), "nodes is forbidden (403)");
    }

    #[test]
    fn the_cause_of_a_broken_connection_is_told_once() {
        let cause = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(cause));
        assert_eq!(words(&error), "ServiceError: connection refused");
    }
}
