//! `#[test]` for the end to end tests. It stands in the place of the compiler's own attribute, since libtest cannot ignore
//! a test at run time: a test names what it needs of the machine, and `tests/support/harness.rs` decides.
//!
//! ```text
//! #[test]                            runs everywhere
//! #[test(needs(Nginx))]              is ignored where nginx is missing; names are those of `Facility`
//! #[test(needs(Python3), alone)]     and runs while no other test does
//! ```

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Registers a function as a test.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let registration = match (parse(arguments), name_of(&function)) {
        (Ok(arguments), Some(name)) => registration(&name, &arguments),
        (Err(error), _) => error_at_compile_time(&error),
        (_, None) => error_at_compile_time("`#[test]` belongs to a function"),
    };
    let mut all = function;
    all.extend(registration.parse::<TokenStream>().unwrap_or_default());
    all
}

/// What stands in the attribute's parentheses.
#[derive(Default)]
struct Arguments {
    needs: Vec<String>,
    alone: bool,
}

fn parse(arguments: TokenStream) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut tokens = arguments.into_iter().filter(|token| !is_comma(token));
    while let Some(token) = tokens.next() {
        match token.to_string().as_str() {
            "alone" => parsed.alone = true,
            "needs" => match tokens.next() {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                    let names = group.stream().into_iter().filter(|token| !is_comma(token));
                    parsed.needs.extend(names.map(|name| name.to_string()));
                }
                _ => return Err("expected `needs(Facility, ..)`".to_owned()),
            },
            other => return Err(format!("`{other}` is not known: expected `needs(..)` or `alone`")),
        }
    }
    Ok(parsed)
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

/// The name behind the first `fn`. (Attributes and comments are groups of tokens, which are not looked into.)
fn name_of(function: &TokenStream) -> Option<String> {
    let mut words = function.clone().into_iter();
    words.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    words.next().map(|name| name.to_string())
}

fn registration(name: &str, arguments: &Arguments) -> String {
    let needs: String =
        arguments.needs.iter().map(|name| format!("crate::support::facility::Facility::{name},")).collect();
    format!(
        "::inventory::submit! {{ crate::support::harness::Test {{
            name: concat!(module_path!(), \"::{name}\"),
            needs: &[{needs}],
            alone: {},
            run: || crate::support::harness::Ending::report({name}()),
        }} }}",
        arguments.alone
    )
}

fn error_at_compile_time(message: &str) -> String {
    format!("compile_error!({message:?});")
}
