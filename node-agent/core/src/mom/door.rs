//! What a program proposes, as a size; MOM hands it to libvirt as it is.

use overcommit_policy::Value;

use crate::units::Bytes;

/// No machine addresses more: 52 bits of physical address (Intel SDM, `MAXPHYADDR`; `CONFIG_ARM64_PA_BITS_52`).
const LARGEST: Bytes = Bytes::new(1 << 52);

/// The size in KiB that a program proposes, what is behind the point dropped.
///
/// # Errors
/// What it is instead of a size.
pub(super) fn size(value: &Value) -> Result<Bytes, String> {
    let Some(whole) = value.to_whole() else {
        return Err(match value {
            Value::Float(float) => format!("{float:e}, which is no size"),
            Value::Big(_) => "an integer that is no size".to_owned(),
            other => format!("{}, which is no size", other.kind()),
        });
    };
    let size = u64::try_from(whole).map_err(|_| format!("{whole}, which is less than nothing"))?;
    let bytes = Bytes::new(1024).scaled(size, 1);
    if bytes > LARGEST { Err(format!("{whole} KiB, more than any machine has")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_whole_kib_and_what_is_none_is_refused_in_words() {
        assert_eq!(size(&Value::Int(4096)), Ok(Bytes::from_mib(4)));
        assert_eq!(size(&Value::Float(4096.9)), Ok(Bytes::from_mib(4)));
        assert_eq!(size(&Value::Float(-0.5)), Ok(Bytes::ZERO));
        for (value, words) in [
            (Value::Int(-5), "-5, which is less than nothing"),
            (Value::Int(i64::MAX), "more than any machine has"),
            (Value::Float(f64::NAN), "NaN, which is no size"),
            (Value::Float(f64::INFINITY), "inf, which is no size"),
            (Value::Float(1e30), "1e30, which is no size"),
            (Value::text("4 GiB"), "a text, which is no size"),
            (Value::Bool(true), "a truth value, which is no size"),
        ] {
            let why = size(&value).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
