/* SPDX-License-Identifier: Apache-2.0 */
const dialog = document.querySelector('dialog');
document.addEventListener('click', event => {
  const picture = event.target.closest('.zoom');
  if (picture) {
    dialog.replaceChildren(picture.firstElementChild.cloneNode());
    dialog.showModal();
  } else if (dialog.open) dialog.close();
});
for (const box of document.querySelectorAll('.scroller')) {
  const mark = () => box.classList.toggle('cut', box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.addEventListener('scroll', mark);
  addEventListener('resize', mark);
  mark();
}
