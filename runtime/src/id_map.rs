//! Mounts whose files belong to others in the container than on the host.

use std::path::PathBuf;

use bulkhead_fsd::{IdMap, IdRange};
use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};

/// A mount asks for mappings that there are not.
#[derive(Debug, thiserror::Error)]
#[error(
    "the mount on {} is to have its ids mapped, which takes uidMappings and gidMappings: its own, or those of the user namespace", destination.display()
)]
pub(crate) struct NoMappings {
    /// Where it was to be mounted.
    destination: PathBuf,
}

/// Mappings of users and of groups, as far as a configuration has any.
pub(crate) type Mappings = (Option<Vec<LinuxIdMapping>>, Option<Vec<LinuxIdMapping>>);

/// Those of the container's user namespace.
pub(crate) fn of_user_namespace(spec: &Spec) -> Mappings {
    spec.linux().as_ref().map_or((None, None), |linux| {
        (linux.uid_mappings().clone(), linux.gid_mappings().clone())
    })
}

/// Takes the wish for mappings out of a mount: the options `idmap` and `ridmap`, and
/// mappings, without which those of the container's user namespace are meant.
pub(crate) fn take(
    mount: &mut Mount,
    user_namespace: &Mappings,
) -> Result<Option<IdMap>, NoMappings> {
    let options = mount.options_mut().get_or_insert_default();
    let recursive = options.iter().any(|option| option == "ridmap");
    let is_asked_for = recursive || options.iter().any(|option| option == "idmap");
    options.retain(|option| option != "idmap" && option != "ridmap");
    let own = (mount.uid_mappings().clone(), mount.gid_mappings().clone());
    mount.set_uid_mappings(None).set_gid_mappings(None);
    let (uids, gids) = match own {
        (None, None) if !is_asked_for => return Ok(None),
        (None, None) => user_namespace.clone(),
        own => own,
    };
    match (ranges(uids), ranges(gids)) {
        (Some(uids), Some(gids)) => Ok(Some(IdMap {
            uids,
            gids,
            recursive,
        })),
        _ => Err(NoMappings {
            destination: mount.destination().clone(),
        }),
    }
}

fn ranges(mappings: Option<Vec<LinuxIdMapping>>) -> Option<Vec<IdRange>> {
    let range = |mapping: LinuxIdMapping| IdRange {
        stored: mapping.container_id(),
        shown: mapping.host_id(),
        count: mapping.size(),
    };
    let mappings = mappings.filter(|mappings| !mappings.is_empty())?;
    Some(mappings.into_iter().map(range).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(mount: Value, linux: &Value) -> Result<Option<IdMap>, NoMappings> {
        let mut mount: Mount = serde_json::from_value(mount).unwrap();
        let spec = json!({ "ociVersion": "1.2.0", "linux": linux });
        let spec = serde_json::from_value(spec).unwrap();
        let map = take(&mut mount, &of_user_namespace(&spec));
        assert_eq!(mount.options().as_ref().unwrap(), &["ro"]);
        assert!(mount.uid_mappings().is_none() && mount.gid_mappings().is_none());
        map
    }

    fn mappings(container: u32, host: u32) -> Value {
        json!([{ "containerID": container, "hostID": host, "size": 10 }])
    }

    #[test]
    fn mappings_are_the_mounts_own_or_the_user_namespaces() {
        let linux = json!({ "uidMappings": mappings(0, 1000), "gidMappings": mappings(0, 2000) });
        let none = of(json!({ "destination": "/a", "options": ["ro"] }), &linux);
        assert_eq!(none.unwrap(), None);

        let asked = json!({ "destination": "/a", "options": ["ro", "ridmap"] });
        let map = of(asked.clone(), &linux).unwrap().unwrap();
        assert_eq!((map.uids[0].stored, map.uids[0].shown), (0, 1000));
        assert_eq!((map.gids[0].shown, map.gids[0].count), (2000, 10));
        assert!(map.recursive);
        assert!(of(asked, &json!({})).is_err());

        let own = json!({
            "destination": "/a", "options": ["ro"],
            "uidMappings": mappings(3, 4), "gidMappings": mappings(5, 6),
        });
        let map = of(own, &linux).unwrap().unwrap();
        assert_eq!((map.uids[0].stored, map.gids[0].shown), (3, 6));
        assert!(!map.recursive);
        let half = json!({
            "destination": "/a", "options": ["ro"], "uidMappings": mappings(3, 4),
        });
        assert!(of(half, &linux).is_err());
    }
}
