//! What the compiler says to whoever uses the macro or the trait in the wrong way: in their terms, with what to do.

#[test]
fn mistakes_are_answered_in_the_authors_terms() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/messages/*.rs");
}
