#[derive(Clone, Debug, Default)]
pub struct Program(Vec<[u8; 8]>);
impl Program {
    pub fn instructions(&self) -> &[[u8; 8]] {
        &self.0
    }
}
pub fn default_program() -> Program {
    Program(vec![[6, 0, 0, 0, 0, 0, 0xff, 0x7f]])
}
pub fn logging_program() -> crate::Result<Program> {
    Ok(Program::default())
}
pub fn init_program() -> Program {
    Program::default()
}
pub struct C {
    pub program: Program,
    pub flags: u32,
}
pub fn compile(_: &crate::spec::Profile) -> crate::Result<C> {
    Err(crate::Error::new("seccomp profiles come with the next commit"))
}
