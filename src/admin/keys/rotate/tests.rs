//! The order of the steps of every key, which is security: what happens, and what the configuration,
//! the folders and the journal say at that moment. No login fails then, as [`World`] makes sure of.

mod world;
mod written;

use strum::IntoEnumIterator as _;

use self::world::World;
use super::*;

/// The first generation is A. Its server and its instance know no other.
fn order(key: KeyRole) -> &'static [&'static str] {
    match key {
        KeyRole::OperatorSigning => &[
            "server restarts; lists AB, seeds AB, noted AB",
            "instance restarts; lists AB, seeds AB, noted AB",
            "instance restarts; lists BA, seeds AB, noted AB",
            "AUTH signed by B; lists BC, seeds ABC, noted ABC",
            "SYS signed by B; lists BC, seeds ABC, noted ABC",
            "USERS signed by B; lists BC, seeds ABC, noted ABC",
            "own signed by B; lists BC, seeds ABC, noted ABC",
            "instance restarts; lists BC, seeds ABC, noted ABC",
            "server restarts; lists BC, seeds ABC, noted ABC",
        ],
        KeyRole::UserSigning => &[
            "USERS knows AB; lists AB, seeds AB, noted AB",
            "instance restarts; lists AB, seeds AB, noted AB",
            "instance restarts; lists BA, seeds AB, noted AB",
            "grants end; lists BA, seeds AB, noted AB",
            "instance restarts; lists BC, seeds ABC, noted ABC",
            "USERS knows BC; lists BC, seeds ABC, noted ABC",
            "own knows BC; lists BC, seeds ABC, noted ABC",
        ],
        KeyRole::ResponseSigning => &[
            "AUTH knows AB; lists AB, seeds AB, noted AB",
            "instance restarts; lists AB, seeds AB, noted AB",
            "instance restarts; lists BA, seeds AB, noted AB",
            "instance restarts; lists BC, seeds ABC, noted ABC",
            "AUTH knows BC; lists BC, seeds ABC, noted ABC",
        ],
        KeyRole::Issuer => &[
            "instance restarts; lists AB, seeds AB, noted AB",
            "server restarts; lists AB, seeds AB, noted AB",
            "instance restarts; lists B, seeds AB, noted AB",
        ],
        KeyRole::Xkey => &[
            "instance restarts; lists AB, seeds AB, noted AB",
            "AUTH seals for B; lists AB, seeds AB, noted AB",
            "instance restarts; lists B, seeds AB, noted AB",
        ],
    }
}

/// What is left of files in the end: nothing of A.
fn left(key: KeyRole) -> &'static str {
    match key {
        KeyRole::Issuer | KeyRole::Xkey => "lists B, seeds B",
        _ => "lists BC, seeds BC",
    }
}

#[tokio::test]
async fn the_new_key_is_known_before_it_signs_and_the_old_one_until_nothing_of_it_is_of_use() {
    for key in KeyRole::iter() {
        let world = World::new(key).await;
        world.rotate(false).await;
        assert_eq!(world.events(), order(key), "{key}");
        assert_eq!(world.files(), left(key), "{key}");
    }
}

#[tokio::test]
async fn a_rotation_that_is_stopped_at_every_question_takes_the_same_steps() {
    for key in KeyRole::iter() {
        let world = World::new(key).await;
        world.rotate_with_stops().await;
        assert_eq!(world.events(), order(key), "{key}");
        assert_eq!(world.files(), left(key), "{key}");
    }
}

#[tokio::test]
async fn grants_are_not_waited_for_where_nobody_wants_to() {
    let world = World::new(KeyRole::UserSigning).await;
    world.rotate(true).await;
    let mut order = order(KeyRole::UserSigning).to_vec();
    order.retain(|event| !event.starts_with("grants end"));
    assert_eq!(world.events(), order);
}

#[tokio::test]
async fn a_server_that_has_its_old_settings_again_is_changed_before_the_old_key_is_gone() {
    for (key, waits, last) in [
        (KeyRole::Xkey, 2, "AUTH seals for B; lists B, seeds AB, noted AB"),
        (KeyRole::Issuer, 3, "server restarts; lists B, seeds AB, noted AB"),
    ] {
        // As late as can be.
        assert_eq!(Step::of(key)[1], [Step::TakeNew, Step::ServersKeep, Step::Remove]);
        let world = World::new(key).await;
        let mut rotator = world.rotator(false);
        for _ in 0..waits {
            let wait = rotator.advance().await.unwrap().remove(0).wait;
            world.obey(&wait.unwrap());
        }
        world.lose_changes();
        drop(rotator);
        world.rotate(false).await;
        assert_eq!(world.events().last().map(String::as_str), Some(last));
        assert_eq!(world.files(), left(key));
    }
}
