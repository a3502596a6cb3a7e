//! Which class a guest is in, and whether it is left alone.

use crate::names::EXCLUDE_ANNOTATION;
use crate::node::Exclusion;
use crate::policy::ClassSpec;
use crate::selector::Labels;

/// What is known of a guest and its namespace from their metadata.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Labels of the VMI.
    pub labels: &'a Labels,
    /// Annotations of the VMI.
    pub annotations: &'a Labels,
    /// Labels of the namespace; absent without Kubernetes.
    pub namespace_labels: Option<&'a Labels>,
    /// Annotations of the namespace; absent without Kubernetes.
    pub namespace_annotations: Option<&'a Labels>,
}

/// The first class that matches, and why the guest is left alone, if it is. The annotation wins over every class.
pub fn classify<'a>(classes: &'a [ClassSpec], subject: &Subject<'_>) -> (Option<&'a str>, Option<Exclusion>) {
    let class = classes.iter().find(|class| selects(class, subject));
    let excluded = if opted_out(subject) {
        Some(Exclusion::Annotation)
    } else {
        match class {
            None => Some(Exclusion::NoClass),
            Some(class) if class.exclude => Some(Exclusion::Class),
            Some(_) => None,
        }
    };
    (class.map(|c| c.name.as_str()), excluded)
}

fn opted_out(subject: &Subject<'_>) -> bool {
    [Some(subject.annotations), subject.namespace_annotations]
        .into_iter()
        .flatten()
        .any(|a| a.get(EXCLUDE_ANNOTATION).is_some_and(|v| v == "true"))
}

fn selects(class: &ClassSpec, subject: &Subject<'_>) -> bool {
    let in_namespace = match (&class.namespace_selector, subject.namespace_labels) {
        (None, _) => true,
        (Some(selector), Some(labels)) => selector.matches(labels),
        (Some(_), None) => false,
    };
    in_namespace && class.selector.as_ref().is_none_or(|s| s.matches(subject.labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Selector;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn class(name: &str, pairs: &[(&str, &str)], exclude: bool) -> ClassSpec {
        let selector = Some(Selector { match_labels: labels(pairs), ..Selector::default() });
        ClassSpec { name: name.into(), selector, exclude, ..ClassSpec::default() }
    }

    #[test]
    fn the_first_class_that_matches_holds() {
        let classes = [class("gold", &[("tier", "gold")], false), class("rest", &[], false)];
        let none = labels(&[]);
        let of = |l: &Labels| {
            let subject = Subject {
                labels: l,
                annotations: &none,
                namespace_labels: None,
                namespace_annotations: None,
            };
            classify(&classes, &subject).0.map(str::to_owned)
        };
        assert_eq!(of(&labels(&[("tier", "gold")])).as_deref(), Some("gold"));
        assert_eq!(of(&labels(&[])).as_deref(), Some("rest"));
    }

    #[test]
    fn the_opt_out_wins_over_every_class_also_from_the_namespace() {
        let classes = [class("rest", &[], false)];
        let (none, out) = (labels(&[]), labels(&[(EXCLUDE_ANNOTATION, "true")]));
        let subject = Subject {
            labels: &none,
            annotations: &none,
            namespace_labels: Some(&none),
            namespace_annotations: Some(&out),
        };
        assert_eq!(classify(&classes, &subject), (Some("rest"), Some(Exclusion::Annotation)));
    }

    #[test]
    fn a_guest_without_a_class_is_left_alone() {
        let classes = [class("gold", &[("tier", "gold")], true)];
        let none = labels(&[]);
        let subject = Subject {
            labels: &none,
            annotations: &none,
            namespace_labels: None,
            namespace_annotations: None,
        };
        assert_eq!(classify(&classes, &subject), (None, Some(Exclusion::NoClass)));
    }
}
