//! Which Kubernetes it is.

use k8s_openapi::apimachinery::pkg::version::Info;

/// What the API server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As it writes it, such as "v1.33.2-gke.1043000".
    pub text: String,
    /// Major and minor, where they are numbers.
    pub number: Option<(u32, u32)>,
}

impl From<Info> for Version {
    fn from(info: Info) -> Self {
        // Some clouds write "30+" for a minor version with patches of their own.
        let minor = info.minor.trim_end_matches('+');
        Self {
            number: info.major.parse().ok().zip(minor.parse().ok()),
            text: info.git_version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(major: &str, minor: &str) -> Option<(u32, u32)> {
        let info = Info {
            major: major.into(),
            minor: minor.into(),
            ..Info::default()
        };
        Version::from(info).number
    }

    #[test]
    fn a_version_is_read_with_a_clouds_plus_or_without() {
        assert_eq!(number("1", "30"), Some((1, 30)));
        assert_eq!(number("1", "9+"), Some((1, 9)));
        assert_eq!(number("1", ""), None);
        assert_eq!(number("", "30"), None);
    }
}
