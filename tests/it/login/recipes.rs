//! Tokens that other programs make, by README's recipes as they are printed.

use std::process::Command;

use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::client::{self, Login};
use crate::harness::deployment::Deployment;
use crate::harness::loudly;

const README: &str = include_str!("../../../README.md");

/// A block of README's recipes.
fn recipe(language: &str) -> &'static str {
    let (_, recipes) = README.split_once("<!-- token recipes").expect("the recipes");
    let begin = format!("\n```{language}\n");
    let (_, block) = recipes.split_once(&begin).expect("a block");
    block.split_once("\n```").expect("its end").0
}

/// What the program prints, with the recipe before it.
fn run(program: &str, language: &str, print: &str) -> Option<String> {
    let code = format!("{}\n{print}", recipe(language));
    let flag = if program == "node" { "-e" } else { "-c" };
    let Ok(output) = Command::new(program).args([flag, &code]).output() else {
        loudly(&format!("SKIPPED: a recipe, without {program}"));
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

async fn logs_in(deployment: &Deployment, token: &str) {
    let url = deployment.url();
    let as_token = Login::Token(token.to_owned());
    for login in [as_token, Login::password("order-service", token)] {
        let connected = client::connect(&url, &login, "_INBOX_one").await;
        assert!(connected.is_ok(), "{login:?}: {}", deployment.service.log());
    }
}

on_both_databases! {
    async fn tokens_of_other_programs_log_in() {
        for mode in either_mode() {
            let deployment = Deployment::start(mode);
            deployment.tenant_add("one", &[]);
            deployment.user_add("one", "order-service", &["--publish", "a"]);
            let python = run("python3", "python", "print(token, token_hash)");
            let node = run("node", "js", "console.log(token, tokenHash);");
            for made in [python, node].into_iter().flatten() {
                let (token, hash) = made.trim().split_once(' ').expect("two words");
                deployment.sql(&format!(
                    "INSERT INTO tokens (user_name, token_hash) VALUES ('order-service', '{hash}')"
                ));
                logs_in(&deployment, token).await;
            }
            if !deployment.table.is_sqlite() {
                let token = deployment.sql(recipe("sql"));
                logs_in(&deployment, token.trim()).await;
            }
        }
    }
}
