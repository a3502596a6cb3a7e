//! One copy of a text that thousands of nodes' objects have: their programs are the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::Object;

/// The copies.
#[derive(Debug, Default)]
pub(crate) struct Shared(BTreeSet<Arc<str>>);

impl Shared {
    /// The same object with the copies that others have.
    pub(crate) fn share(&mut self, mut object: Object) -> Object {
        let mom = object.spec.as_mut().and_then(|spec| spec.resolved.engine.mom.as_mut());
        for text in mom.into_iter().flat_map(|mom| &mut mom.slots).filter_map(|slot| slot.program.as_mut()) {
            if let Some(known) = self.0.get(&**text) {
                *text = Arc::clone(known);
                continue;
            }
            self.0.retain(|text| Arc::strong_count(text) > 1);
            self.0.insert(Arc::clone(text));
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::object;
    use overcommit_crds::policy::{MomSpec, SlotSpec};

    fn with(text: &str) -> Object {
        let mut object = object("a", "mom");
        let slot = SlotSpec { name: "a".into(), program: Some(text.into()), config_map_key_ref: None };
        object.spec.as_mut().unwrap().resolved.engine.mom = Some(MomSpec { slots: vec![slot] });
        object
    }

    fn text(object: &Object) -> &Arc<str> {
        let mom = object.spec.as_ref().and_then(|spec| spec.resolved.engine.mom.as_ref());
        mom.and_then(|mom| mom.slots[0].program.as_ref()).unwrap()
    }

    #[test]
    fn many_objects_have_one_copy_of_a_program_and_none_stays_behind() {
        let mut shared = Shared::default();
        let (a, b) = (shared.share(with("1")), shared.share(with("1")));
        assert!(Arc::ptr_eq(text(&a), text(&b)));
        drop((a, b));
        let _c = shared.share(with("2"));
        assert_eq!(shared.0.len(), 1);
    }
}
