//! Words of the enums of a manifest, and keys of its tables, as serde has them: a list of them stands nowhere else.

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error as _, Visitor,
        value::{Error, MapDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

/// Parses a word as a variant of an enum.
pub(crate) fn parse<'de, T: Deserialize<'de>>(word: &'de str) -> Option<T> {
    T::deserialize(StrDeserializer::<Error>::new(word)).ok()
}

/// Words of an enum, in the order of the variants.
pub(crate) fn words<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // The listener has no value to give; what counts is what serde asked it for.
    let _ = T::deserialize(NameListener(&mut found));
    found
}

/// Keys of a table, in the order of the struct's fields.
pub(crate) fn keys<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    words::<T>()
}

/// Makes a table of lists of texts, from each key and its list.
pub(crate) fn table<T: DeserializeOwned>(
    lists: impl Iterator<Item = (&'static str, Vec<String>)>,
) -> Option<T> {
    T::deserialize(MapDeserializer::<_, Error>::new(lists)).ok()
}

/// Deserializer that only notes which variants an enum has, or which fields a struct.
struct NameListener<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for NameListener<'_> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        Err(Error::custom("there is no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("there is no value"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("this is neither an enum nor a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protoplex_wire::{
        manifest::{Grants, Overflow, UpstreamProtocol},
        role::{ROLES, Role},
    };

    #[test]
    fn words_are_those_of_the_manifest() {
        assert_eq!(
            words::<Overflow>(),
            ["disconnect", "drop-oldest", "latest-only"]
        );
        assert_eq!(
            parse::<UpstreamProtocol>("https-http1"),
            Some(UpstreamProtocol::HttpsHttp1)
        );
        assert_eq!(parse::<Overflow>("drop"), None);
        let known: Vec<_> = words::<Role>().iter().map(|word| parse(word)).collect();
        assert_eq!(known.len(), ROLES.len());
        assert!(ROLES.iter().all(|row| known.contains(&Some(row.role))));
    }

    #[test]
    fn keys_are_those_of_the_manifest() {
        let keys = keys::<Grants>();
        assert!(keys.contains(&"settings") && keys.contains(&"upgrades"));
        let lists = keys.iter().map(|key| (*key, vec![(*key).to_owned()]));
        let grants: Grants = table(lists).expect("grants");
        assert_eq!(grants.relay, ["relay"]);
        assert_eq!(grants.apps, ["apps"]);
    }
}
