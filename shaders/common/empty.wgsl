// Raw density where a grid has no network: nothing, whatever the activation.
const EMPTY: f32 = -1e4;
