//! PURE: folded stacks, a line each, as tools for flame graphs read them: `app;outer;inner N`, N in microseconds.

use wasmhost_supervise::profile::HostProfile;

/// The lines.
pub(super) fn write(profile: &HostProfile) -> String {
    let mut text = String::new();
    for (app, frames, stack) in profile.named().filter(|(.., stack)| stack.cpu_us > 0) {
        text.push_str(&name(app));
        for frame in frames {
            text.push(';');
            text.push_str(&name(frame));
        }
        text.push_str(&format!(" {}\n", stack.cpu_us));
    }
    text
}

/// A name without what would end it.
fn name(name: &str) -> String {
    let letter = |letter: char| match letter {
        ';' => ':',
        _ if letter.is_control() => ' ',
        _ => letter,
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::profile;
    use super::*;

    #[test]
    fn each_stack_is_a_line_and_names_end_none() {
        assert_eq!(write(&profile()), "a;m!main;m!f:x 6000\na;m!main;m!g<T>& 3000\nb;m!main 1000\n");
    }
}
