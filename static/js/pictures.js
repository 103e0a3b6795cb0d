// Pictures that are too large to be sent are made smaller here, and a picture can be pasted into a message.
// Without this script the server says which picture is too large, and keeps the others.
(() => {
  const LARGEST = 2 * 1024 * 1024;
  const MOST = 3;
  const SIDES = [2560, 1600, 1024];

  async function smaller(file) {
    if (file.size <= LARGEST || !/^image\/(png|jpeg|webp)$/.test(file.type)) return file;
    let picture;
    try {
      picture = await createImageBitmap(file, { imageOrientation: "from-image" });
    } catch {
      return file; // the server says what is wrong with it
    }
    for (const side of SIDES) {
      const scale = Math.min(1, side / Math.max(picture.width, picture.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(picture.width * scale);
      canvas.height = Math.round(picture.height * scale);
      const pen = canvas.getContext("2d");
      pen.fillStyle = "white"; // what is clear in a PNG would be black in a JPEG
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
      const made = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
      if (made && made.size <= LARGEST) {
        return new File([made], `${file.name.replace(/\.\w+$/, "")}.jpg`, { type: made.type });
      }
    }
    return file;
  }

  async function put(input, files) {
    const said = input.form.querySelector("#pictures-said");
    const button = input.form.querySelector("button");
    button.disabled = true;
    try {
      const ready = await Promise.all(files.slice(0, MOST).map(smaller));
      const list = new DataTransfer();
      ready.forEach((file) => list.items.add(file));
      input.files = list.files;
      const shrunk = ready.filter((file, place) => file !== files[place]).length;
      const told = [`${ready.length} ${ready.length === 1 ? "picture" : "pictures"} chosen.`];
      if (shrunk) told.push(shrunk === 1 ? "One was made smaller." : `${shrunk} were made smaller.`);
      if (files.length > MOST) told.push(`${MOST} fit into one message: the others were left out.`);
      said.textContent = ready.length ? told.join(" ") : "";
    } finally {
      button.disabled = false;
    }
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-pictures]")) put(event.target, [...event.target.files]);
  });

  document.addEventListener("paste", (event) => {
    const input = event.target.form?.querySelector("input[data-pictures]");
    const pasted = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (!input || !pasted.length) return;
    event.preventDefault();
    put(input, [...input.files, ...pasted]);
  });
})();
