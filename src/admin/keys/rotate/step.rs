//! The steps of a rotation, and their order.

use crate::deployment::KeyRole;

/// A step of a rotation, done once what it says is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Every server lists the new key, before anything signs with it.
    ServersLearn,
    /// Every instance lists the new key, before another signs with it.
    InstancesLearn,
    /// Every instance signs with the new key.
    Sign,
    /// No grant is alive that the old key signed.
    GrantsEnd,
    /// The generation after the new key is made, and noted.
    NameNext,
    /// The configuration lists the new key and the next.
    ListNext,
    /// Every account that servers hold is signed by the new key.
    Resign,
    /// Every instance has forgotten the old key, and then every server.
    Forget,
    /// Every instance goes by either key, before a server goes by the new one.
    TakeEither,
    /// Every server goes by the new key.
    ServersChange,
    /// Every instance goes by the new key alone.
    TakeNew,
    /// Every server still goes by it, also one that was restarted meanwhile.
    ServersKeep,
    /// No file of the old key is left.
    Remove,
}

impl Step {
    /// The order, which is security: until a key is in use, and then until the one before it is
    /// forgotten.
    pub(in super::super) fn of(key: KeyRole) -> [&'static [Self]; 2] {
        use Step::*;

        match key {
            KeyRole::OperatorSigning => [
                &[ServersLearn, InstancesLearn, Sign, NameNext],
                &[ListNext, Resign, Forget, Remove],
            ],
            KeyRole::UserSigning => [
                &[ServersLearn, InstancesLearn, Sign, GrantsEnd, NameNext],
                &[ListNext, Forget, Remove],
            ],
            KeyRole::ResponseSigning => {
                [&[ServersLearn, InstancesLearn, Sign, NameNext], &[ListNext, Forget, Remove]]
            }
            KeyRole::Issuer | KeyRole::Xkey => {
                [&[TakeEither, ServersChange], &[TakeNew, ServersKeep, Remove]]
            }
        }
    }
}
