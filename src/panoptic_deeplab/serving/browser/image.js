// The bytes of an image file to its pixels: PNG by png.js, all else by the browser.

import {decodePng, isPng} from "./png.js";

const MAX_PIXELS = 1e8;

/** {width, height, channels, data} of a Blob; what cannot be read is an Error with a sentence. */
export async function decode(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (isPng(bytes)) {
    try {
      const image = await decodePng(bytes, MAX_PIXELS);
      if (image) return image;
    } catch (error) {
      if (error instanceof RangeError) throw tooLarge();
      throw new Error("The image is damaged: a PNG that is not complete. Open or save it again elsewhere.");
    }
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  } catch {
    throw new Error("The file is no image that this browser reads. Expected a complete PNG, JPEG or WebP file; convert it.");
  }
  const {width, height} = bitmap;
  if (width * height > MAX_PIXELS) throw tooLarge();
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const {data} = context.getImageData(0, 0, width, height);
  const image = {width, height, channels: 4, data: new Uint8Array(data.buffer)};
  return image.data.every((value, at) => at % 4 < 3 || value === 255) ? {...image, channels: 3, data: colors(image.data)} : image;
}

/** RGB of RGBA. */
function colors(data) {
  const found = new Uint8Array(data.length / 4 * 3);
  for (let from = 0, to = 0; to < found.length; from++) if (from % 4 < 3) found[to++] = data[from];
  return found;
}

const tooLarge = () => new Error(`The image has more than ${MAX_PIXELS / 1e6} megapixels, which this page does not read. Make it smaller.`);
