"""Otto: guide to molts, past fifty, among his books in the light of a desk lamp."""

from __future__ import annotations

from avatars.characters.figure import Figure
from avatars.characters.look import Look
from avatars.characters.stage import Pose
from avatars.characters.svg import Drawing, ellipse, fade, gradient, placed, shifted, soft, strands
from avatars.engines.poses import Mouth

HAIR, HAIR_LIGHT, HAIR_DARK, GREY = "#8a4e2f", "#b87748", "#5c301c", "#d8c9bb"

LEFT_CHEEK, LEFT_CHIN = "M172 150C176 220 184 290 226 346", "M244 292C244 316 248 334 252 352"
RIGHT_CHEEK, RIGHT_CHIN = "M340 150C336 220 328 290 286 346", "M268 292C268 316 264 334 260 352"


class Otto(Figure):
    name = "otto"
    look = Look(
        light="#fbd9bb",
        skin="#efba94",
        shade="#d39670",
        deep="#8f5237",
        blush="#e36f4f",
        lip="#b9635a",
        lip_light="#d68a7c",
        iris="#2f5d57",
        iris_light="#6fa394",
        brow="#74402a",
        lash="#3a2015",
        lid="#d8a07c",
        lash_wing=0.0,
        eye_wide=20.0,
        eye_up=11.0,
        eye_down=6.6,
        eye_tilt=0.5,
        iris_radius=10.6,
        brow_thick=8.5,
        brow_arch=3.5,
        brow_y=184,
        lips=0.78,
        mouth_wide=27,
        mouth_y=289,
        nose_wide=17,
        nose_y=260,
        neck_wide=43,
        smile=7.5,
        folds=0.3,
        jaw=(
            "M174 186C173 130 202 92 256 92C310 92 339 130 338 186C338 216 336 246 331 270C325 298 306 324 284 335"
            "C266 343 246 343 228 335C206 324 187 298 181 270C176 246 174 216 174 186Z"
        ),
    )

    def own_definitions(self) -> str:
        return "".join(
            (
                gradient("hair", (f"0 {HAIR_LIGHT}", f".45 {HAIR}", f"1 {HAIR_DARK}"), (0.1, 0, 0.8, 1)),
                gradient("beard", (f"0 {HAIR}", f".55 {HAIR_DARK}", "1 #7d5540")),
                gradient("stache", (f"0 {HAIR_LIGHT}", f".6 {HAIR}", f"1 {HAIR_DARK}")),
                gradient("shine", ("0 #e2a773 0", ".4 #e2a773 .8", "1 #e2a773 0")),
                gradient("knit", ("0 #efc063", ".5 #d99d3c", "1 #a86f20"), (0, 0, 0.7, 1)),
                gradient("collar", ("0 #ffffff", "1 #dfe6ea"), (0, 0, 0.3, 1)),
                gradient("lens", ("0 #ffffff .34", ".45 #ffffff .06", "1 #ffffff .16"), (0, 0, 0.8, 1)),
            )
        )

    def scene(self) -> str:
        draw = Drawing()
        draw.raw(
            "<defs>"
            + gradient("wall", ("0 #3f6f78", ".6 #2f5762", "1 #213f4a"), (0, 0, 0.3, 1))
            + fade("lamp", "#ffdf9e", 0.95)
            + fade("fill", "#8fd0d0", 0.5)
            + fade("vignette", "#0c2128", 0.75)
            + soft("b2", 3)
            + soft("b8", 8)
            + "</defs>"
        )
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="url(#wall)"/>')
        draw.open(filter="b2")
        colours = ("#c8694b", "#e0a458", "#f0dcb8", "#5f8f8b", "#7c4f5e", "#a9bf9e", "#d98f6a", "#3e6b7a")
        for row in range(-4, 6):
            y = 8 + row * 112
            x = -420.0
            number = (row + 4) * 37
            while x < 930:
                number += 1
                wide = 15 + (number * 7) % 13
                high = 66 + (number * 13) % 26
                if (number * 5) % 11 == 0:
                    x += 30
                    continue
                lean = 6 if number % 9 == 0 else 0
                draw.raw(
                    f'<rect x="{x:.0f}" y="{y + 98 - high}" width="{wide}" height="{high}" rx="2.500"'
                    f' fill="{colours[(number * 3 + row * 5) % 8]}" opacity=".62" transform="rotate({lean} {x:.0f} {y + 98})"/>'
                )
                x += wide + 3 + lean
            draw.raw(f'<rect x="-500" y="{y + 98}" width="1512" height="12" fill="#7a5238"/>')
            draw.raw(f'<rect x="-500" y="{y + 98}" width="1512" height="4" fill="#a8775056"/>')
        draw.close()
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="#234852" opacity=".38"/>')
        draw.path(ellipse(62, 150, 330), "@lamp", opacity=0.9)
        draw.path(ellipse(62, 150, 130), "@lamp", opacity=0.9)
        draw.open(filter="b2")
        draw.path("M18 120L92 120L124 196L-14 196Z", "#fff1cf")
        draw.raw('<rect x="50" y="196" width="10" height="330" fill="#b08345"/>')
        draw.close()
        draw.path(ellipse(520, 260, 260, 330), "@fill", opacity=0.5)
        draw.path(ellipse(256, 560, 720, 230), "@vignette")
        return draw.svg()

    def behind(self, draw: Drawing, pose: Pose) -> None:
        back = "M256 74C206 74 168 106 168 170C168 210 176 240 190 262L322 262C336 240 344 210 344 170C344 106 306 74 256 74Z"
        draw.path(placed(back, pose.at(-20)), HAIR_DARK)

    def clothes(self, draw: Drawing, pose: Pose) -> None:
        body = pose.body()
        jumper = (
            "M198 362C176 378 124 388 92 404C52 424 36 480 32 570L32 720L480 720L480 570C476 480 460 424 420 404"
            "C388 388 336 378 314 362C306 408 284 436 256 440C228 436 206 408 198 362Z"
        )
        draw.path(placed(jumper, body), "@knit")
        shape = placed(jumper, body)
        draw.clip(shape)
        draw.line(
            placed(strands("M60 400C80 470 84 560 84 700", "M452 400C432 470 428 560 428 700", 44, sway=0.6), body),
            "#8f5c18",
            1.2,
            opacity=0.3,
        )
        edge = "M92 404C52 424 36 480 32 570L32 720"
        draw.line(placed(edge, body), "#fff0c4", 6.0, opacity=0.6, filter="soft2")
        draw.path(
            placed("M420 400C446 440 424 500 424 720L500 720L490 440Z", body), "#5b3508", opacity=0.45, filter="soft8"
        )
        draw.path(placed("M92 404C64 440 76 500 78 720L20 720L20 440Z", body), "#ffe3a1", opacity=0.35, filter="soft8")
        draw.path(
            placed(
                "M188 372C196 424 224 458 256 460C288 458 316 424 324 372L340 384C330 444 296 482 256 484C216 482 182 444 172 384Z",
                body,
            ),
            "#6b4310",
            opacity=0.35,
            filter="soft4",
        )
        draw.close()
        draw.path(
            placed(
                "M198 362C206 408 228 436 256 440C284 436 306 408 314 362L328 370C320 420 292 456 256 460C220 456 192 420 184 370Z",
                body,
            ),
            "#c98c30",
        )
        draw.line(placed("M184 370C192 420 220 456 256 460C292 456 320 420 328 370", body), "#8f5c18", 1.8, opacity=0.6)
        shirt = "M204 364C214 388 234 404 256 406C278 404 298 388 308 364L334 378L284 446L228 446L178 378Z"
        draw.path(placed(shirt, body), "#d3dbe0")
        draw.line(placed("M256 406L256 446", body), "#aab6bd", 1.4)
        draw.path(placed(ellipse(256, 432, 3.2), body), "#f7f9fa", stroke="#9aa8b0")
        draw.path(
            placed("M200 352C188 362 182 368 178 378C190 408 210 432 228 446L256 416C232 404 212 384 200 352Z", body),
            "@collar",
        )
        draw.path(
            placed("M312 352C324 362 330 368 334 378C322 408 302 432 284 446L256 416C280 404 300 384 312 352Z", body),
            "@collar",
        )
        draw.path(
            placed("M312 352C324 362 330 368 334 378C322 408 302 432 284 446L256 416C280 404 300 384 312 352Z", body),
            "#5d7480",
            opacity=0.25,
        )
        draw.line(
            placed("M178 378C190 408 210 432 228 446L256 416L284 446C302 432 322 408 334 378", body),
            "#8496a0",
            1.2,
            opacity=0.5,
        )

    def hairline(self, draw: Drawing, pose: Pose) -> None:
        draw.path(
            placed(
                "M160 230C176 190 180 150 206 132C240 122 280 126 306 134C332 150 336 190 352 230L352 80L160 80Z",
                pose.face(0),
            ),
            self.look.deep,
            opacity=0.36,
            filter="soft4",
        )

    def beard(self, draw: Drawing, pose: Pose) -> None:
        beard = self._beard(pose)
        draw.path(beard, "#3a1c0e", opacity=0.35, filter="soft4")
        draw.path(beard, "@beard")
        draw.clip(beard)
        place = pose.face(3)
        left, right = strands(LEFT_CHEEK, LEFT_CHIN, 16, sway=2), strands(RIGHT_CHEEK, RIGHT_CHIN, 16, 4, sway=2)
        draw.line(placed(left + right, place), HAIR_DARK, 1.5, opacity=0.35)
        left, right = strands(LEFT_CHEEK, LEFT_CHIN, 13, 7, sway=2), strands(RIGHT_CHEEK, RIGHT_CHIN, 13, 9, sway=2)
        draw.line(placed(left + right, place), HAIR_LIGHT, 1.3, opacity=0.5)
        for side in (-1, 1):
            draw.path(placed(ellipse(256 + side * 76, 196, 9, 34), place), GREY, opacity=0.36, filter="soft4")
        draw.close()

    def chin_hair(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        place = pose.face(3)
        draw.clip(self._beard(pose))
        drop = 11 * mouth.openness
        chin = placed(ellipse(256, 334 + drop, 26, 14), place)
        draw.path(chin, GREY, opacity=0.42, filter="soft4")
        tuft = strands("M226 312C230 326 238 336 248 344", "M286 312C282 326 274 336 264 344", 16, 2, sway=1.5)
        draw.line(placed(tuft, shifted(place, before=(0, drop))), GREY, 1.1, opacity=0.22)
        draw.close()

    def _beard(self, pose: Pose) -> str:
        return placed(
            "M160 140L183 140C187 176 184 208 189 232C193 252 204 262 216 266C224 268 238 268 256 268C274 268 288 268 296 266"
            "C308 262 319 252 323 232C328 208 325 176 329 140L352 140L356 260L330 356L256 370L182 356L156 260Z",
            pose.face(2),
        )

    def moustache(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        y = self.look.mouth_y - 7.2 * mouth.openness
        o = 6 * mouth.openness
        half = 38 * (1 - 0.30 * mouth.rounding) + 6 * max(0.0, mouth.width - 0.5)
        place = pose.face(9)
        for side in (-1, 1):

            def x(v: float, side: int = side) -> float:
                return 256 + side * v

            wing = placed(
                f"M{x(-1)} {y - 17}C{x(8)} {y - 23} {x(24)} {y - 22} {x(half)} {y - 3 + o}"
                f"C{x(half + 3)} {y + 2 + o} {x(half - 1)} {y + 7 + o} {x(half - 7)} {y + 4 + o}"
                f"C{x(22)} {y - 3} {x(8)} {y - 4} {x(-1)} {y - 4}Z",
                place,
            )
            draw.path(wing, "#3a1c0e", opacity=0.3, filter="soft2")
            draw.path(wing, "@stache")
            hairs = strands(
                f"M{x(1)} {y - 17}C{x(12)} {y - 20} {x(24)} {y - 17} {x(half - 1)} {y + o}",
                f"M{x(1)} {y - 5}C{x(10)} {y - 6} {x(20)} {y - 5} {x(half - 6)} {y + 3 + o}",
                9,
                1,
                sway=0.5,
            )
            draw.line(placed(hairs, place), HAIR_DARK, 1.1, opacity=0.4)

    def hair(self, draw: Drawing, pose: Pose) -> None:
        """Parted on the left of the picture, brushed over; grey at the temples."""
        place = pose.hair(8)
        top = placed(
            "M172 196C163 150 166 100 196 78C214 52 262 42 302 55C340 66 355 104 349 152C348 168 345 182 341 196"
            "C339 174 336 154 328 140C318 126 300 122 280 121C256 120 234 122 214 110C207 126 193 134 186 150"
            "C180 164 176 180 172 196Z",
            place,
        )
        draw.path(top, "@hair")
        draw.clip(top)
        for side, grey in ((-1, 0.4), (1, 0.32)):
            draw.path(placed(ellipse(256 + side * 84, 172, 13, 36), place), GREY, opacity=grey, filter="soft4")
        over = ("M213 112C250 128 306 112 334 172", "M206 82C236 30 336 40 352 150")
        down = ("M212 112C202 126 190 144 180 190", "M206 82C180 84 164 124 170 186")
        locks = strands(*over, 22, sway=1.2) + strands(*down, 12, sway=1.0)
        draw.line(placed(locks, place), HAIR_DARK, 1.5, opacity=0.4)
        shine = strands(*over, 18, 3, sway=1.2)
        draw.line(placed(shine, place), "@shine", 2.0, opacity=0.75)
        draw.line(placed(strands(*down, 9, 3, sway=1.0), place), "@shine", 1.8, opacity=0.6)
        draw.line(placed("M213 112C208 102 205 92 206 82", place), HAIR_DARK, 2.4, opacity=0.6)
        draw.path(
            placed("M214 104C250 116 306 108 336 170L340 200L320 150C296 116 250 132 214 118Z", place),
            HAIR_DARK,
            opacity=0.5,
            filter="soft4",
        )
        rim = "M172 196C163 150 166 100 196 78C206 64 226 54 250 50"
        draw.line(placed(rim, place), "#ffdf9e", 7.0, opacity=0.55, filter="soft2")
        draw.close()

    def before(self, draw: Drawing, pose: Pose) -> None:
        place = pose.face(16)
        y = self.look.eye_y + 2
        rims = []
        for side in (-1, 1):
            x = 256 + side * 37
            rims.append(
                f"M{x - 30} {y - 4}C{x - 30} {y - 22} {x - 18} {y - 25} {x} {y - 25}C{x + 18} {y - 25} {x + 30} {y - 22} {x + 30} {y - 4}"
                f"C{x + 30} {y + 16} {x + 18} {y + 25} {x} {y + 25}C{x - 18} {y + 25} {x - 30} {y + 16} {x - 30} {y - 4}Z"
            )
        for rim in rims:
            draw.line(placed(rim, shifted(pose.face(6), before=(1, 5))), self.look.deep, 4.0, opacity=0.22)
        for rim in rims:
            draw.path(placed(rim, place), "@lens")
            draw.line(placed(rim, place), "#2b3236", 4.2)
            draw.line(placed(rim, shifted(place, after=(-0.6, -1.0))), "#7d8c92", 1.0, opacity=0.6)
        draw.line(placed(f"M249 {y - 6}C252 {y - 11} 260 {y - 11} 263 {y - 6}", place), "#2b3236", 4.2)
        for side in (-1, 1):
            x = 256 + side * 67
            arm = placed(f"M{x} {y - 10}L{256 + side * 82} {y - 12}", pose.face(10))
            draw.line(arm, "#2b3236", 4.2)
