//! Errors of the API client for people: the server's own sentence, or the chain of causes, without debug dumps.

use std::error::Error;

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
