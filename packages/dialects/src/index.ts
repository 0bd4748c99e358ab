export {
  blaxelCreationError,
  blaxelCreationErrorOf,
  blaxelError,
  blaxelErrorOf,
  blaxelRunError,
  blaxelRunErrorOf,
  type BlaxelRefusal,
  type Parsed,
} from './blaxel/control-plane/refusals.ts';
export { DEFAULT_IMAGE, plainImages, resolveBlaxelImage, type BlaxelImage } from './blaxel/control-plane/images.ts';
export {
  blaxelList,
  isPaged,
  parseBlaxelListQuery,
  parseFlag,
  type BlaxelListQuery,
} from './blaxel/control-plane/lists.ts';
export {
  offeredPreviewToken,
  parseBlaxelPreview,
  parseBlaxelPreviewToken,
  parsePreviewPath,
  previewEnded,
  previewHeaders,
  previewId,
  previewUrl,
  SESSION_PORT,
  toBlaxelPreview,
  toBlaxelPreviewToken,
  type BlaxelPreview,
  type BlaxelPreviewToken,
  type StoredPreview,
} from './blaxel/control-plane/previews.ts';
export {
  parseBlaxelCreate,
  plainOffer,
  type AskContext,
  type BlaxelOffer,
} from './blaxel/control-plane/sandbox-ask.ts';
export { parseBlaxelUpdate, type BlaxelUpdate, type UpdateContext } from './blaxel/control-plane/sandbox-update.ts';
export {
  dataPlaneUrl,
  standingOf,
  toBlaxelSandbox,
  type BlaxelStatus,
  type Standing,
  type ViewContext,
} from './blaxel/control-plane/sandbox-view.ts';
export { parseBlaxelForkAsk, parseBlaxelSnapshotAsk, toBlaxelSnapshot } from './blaxel/control-plane/snapshots.ts';
export { BLAXEL_VERSIONS, parseBlaxelVersion, type BlaxelVersion } from './blaxel/control-plane/versions.ts';
export { type DataPlaneAnswer, type DataPlaneCall, type DataPlaneRequest } from './blaxel/data-plane/exchange.ts';
export { serveBlaxelDataPlane } from './blaxel/data-plane/serve.ts';
