// Raw density where a grid has no network: zero density after any activation.
const EMPTY: f32 = -1e4;
