"""Finn: a fox in an autumn wood, with a scarf."""

from __future__ import annotations

from avatars.characters.figure import Figure
from avatars.characters.look import Look
from avatars.characters.stage import Pose
from avatars.characters.svg import Drawing, ellipse, fade, gradient, placed, soft, strands
from avatars.engines.poses import Head, Mouth

FUR, FUR_LIGHT, FUR_DARK, CREAM, CREAM_SHADE, BARK = "#e2762f", "#f7a558", "#b0501d", "#fff4e3", "#e6c9a6", "#3a211a"

HEAD = (
    "M256 102C206 100 166 128 154 178C148 206 136 226 106 244C120 250 128 252 138 252C128 264 118 272 104 278"
    "C122 285 140 286 154 283C172 318 212 344 256 348C300 344 340 318 358 283C372 286 390 285 408 278"
    "C394 272 384 264 374 252C384 252 392 250 406 244C376 226 364 206 358 178C346 128 306 100 256 102Z"
)

CHEEKS = (
    "M96 262C126 268 152 262 172 246C192 236 216 238 230 246C242 254 250 262 256 270C262 262 270 254 282 246"
    "C296 238 320 236 340 246C360 262 386 268 416 262L426 340L256 384L86 340Z"
)


class Finn(Figure):
    name = "finn"
    zoom = 0.98
    look = Look(
        light="#ffb871",
        skin=FUR,
        shade="#c4611f",
        deep="#5a2a17",
        blush="#ff7a4d",
        lip="#4a241c",
        lip_light="#6d3a2e",
        iris="#7a4310",
        iris_light="#f0ac3c",
        brow="#8a3c14",
        lash="#2a1510",
        lid="#c4611f",
        eye_apart=48,
        eye_y=208,
        eye_wide=25,
        eye_up=18.5,
        eye_down=11,
        eye_tilt=4,
        iris_radius=16.5,
        lash_wing=0.8,
        brow_y=172,
        brow_thick=7,
        brow_arch=4,
        lips=0.42,
        mouth_y=299,
        mouth_wide=30,
        smile=9,
        mouth_lift=30,
        jaw_y=298,
        nose_y=262,
        folds=0,
        bags=0.1,
    )

    def own_definitions(self) -> str:
        return "".join(
            (
                gradient("fur", (f"0 {FUR_LIGHT}", f".5 {FUR}", f"1 {FUR_DARK}"), (0.2, 0, 0.8, 1)),
                gradient("cream", (f"0 {CREAM}", f".6 {CREAM}", f"1 {CREAM_SHADE}"), (0.2, 0, 0.7, 1)),
                gradient("bib", (f"0 {CREAM_SHADE}", f".4 {CREAM}", f"1 {CREAM}")),
                gradient("earin", ("0 #4a241c", "1 #c98b74")),
                gradient("nose", ("0 #5b4038", ".5 #2a1713", "1 #150b09")),
                gradient("scarf", ("0 #3aa39a", ".5 #1f7a78", "1 #125254"), (0, 0, 0.6, 1)),
            )
        )

    def scene(self) -> str:
        draw = Drawing()
        draw.raw(
            "<defs>"
            + gradient("wood", ("0 #f7d9a0", ".4 #d9a765", ".75 #8a7443", "1 #4a4a2c"), (0, 0, 0.1, 1))
            + fade("sun", "#fff3cf", 1.0)
            + fade("vignette", "#2b2413", 0.7)
            + soft("b3", 3)
            + soft("b10", 10)
            + "</defs>"
        )
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="url(#wood)"/>')
        draw.path(ellipse(330, 60, 380, 330), "@sun", opacity=0.95)
        draw.open(filter="b10")
        for i in range(12):
            x = -430 + i * 118 + (i * 53) % 40
            draw.raw(f'<rect x="{x}" y="-500" width="{16 + (i * 7) % 14}" height="950" fill="#7d6238" opacity=".45"/>')
        for i in range(26):
            x, y = -430 + (i * 211) % 1370, -40 + (i * 97) % 240
            draw.path(
                ellipse(x, y, 50 + (i * 17) % 40), ("#e8a13f", "#d9772f", "#b9a045", "#f2c565")[i % 4], opacity=0.5
            )
        draw.close()
        draw.open(filter="b3")
        for x, w in ((-330, 46), (-96, 40), (28, 34), (470, 38), (640, 50), (880, 44)):
            draw.path(
                f"M{x} -500L{x + w} -500L{x + w + 4} 300C{x + w + 8} 380 {x + w + 16} 410 {x + w + 34} 440L{x - 30} 440C{x - 12} 410 {x - 4} 380 {x - 2} 300Z",
                "#5d4428",
                opacity=0.8,
            )
        draw.close()
        draw.open(filter="b10")
        draw.path("M-500 400C-300 360 -100 420 100 392C300 370 520 420 1012 380L1012 1012L-500 1012Z", "#5f6a36")
        draw.path("M-500 440C-260 410 0 460 256 436C500 420 760 460 1012 430L1012 1012L-500 1012Z", "#434f2b")
        draw.close()
        for i in range(22):
            x, y, r = -400 + (i * 173) % 1310, 10 + (i * 71) % 400, 5 + (i * 11) % 14
            draw.path(
                ellipse(x, y, r), ("#fff0bd", "#ffd98a", "#f7b765")[i % 3], opacity=0.28 + 0.06 * (i % 4), filter="b3"
            )
        draw.path(ellipse(256, 580, 720, 220), "@vignette")
        return draw.svg()

    def behind(self, draw: Drawing, pose: Pose) -> None:
        """The tail, behind a shoulder, breathes along."""
        body = pose.body()
        draw.path(
            placed(
                "M372 560C430 520 470 450 452 372C448 350 436 332 420 318C484 330 520 400 512 470C506 530 470 580 420 610Z",
                body,
            ),
            "@fur",
        )
        draw.path(
            placed(
                "M420 318C446 322 470 338 486 360C470 364 462 372 458 384C450 376 444 378 440 386C440 358 434 336 420 318Z",
                body,
            ),
            "@cream",
        )

    def clothes(self, draw: Drawing, pose: Pose) -> None:
        body = pose.body()
        trunk = placed(
            "M178 330C150 370 112 400 96 452C84 500 84 600 84 720L428 720C428 600 428 500 416 452C400 400 362 370 334 330Z",
            body,
        )
        draw.path(trunk, "@fur")
        draw.clip(trunk)
        shade = "M416 452C400 400 362 370 334 330L320 400C380 440 372 560 372 720L470 720Z"
        draw.path(placed(shade, body), FUR_DARK, opacity=0.55, filter="soft8")
        edge = "M334 330C362 370 400 400 416 452C428 500 428 600 428 720"
        draw.line(placed(edge, body), "#ffd9a0", 6.0, opacity=0.5, filter="soft2")
        draw.close()
        bib = "M190 350C176 400 168 440 186 476C182 484 190 494 200 500C200 512 214 520 226 522C232 540 246 552 256 566C266 552 280 540 286 522C298 520 312 512 312 500C322 494 330 484 326 476C344 440 336 400 322 350Z"
        draw.path(placed(bib, body), "@bib")
        draw.line(
            placed(strands("M196 420C198 450 204 470 214 490", "M316 420C314 450 308 470 298 490", 18, sway=2), body),
            CREAM_SHADE,
            1.8,
            opacity=0.7,
        )
        scarf = (
            "M168 342C170 322 342 322 344 342C356 366 352 386 338 396C300 414 212 414 174 396C160 386 156 366 168 342Z"
        )
        end = "M300 392C312 386 338 384 344 392C352 430 354 470 346 520L296 516C304 470 306 430 300 392Z"
        draw.path(
            placed("M306 396C320 420 330 470 330 540L360 540C366 480 364 430 350 396Z", body),
            FUR_DARK,
            opacity=0.4,
            filter="soft4",
        )
        draw.path(placed(end, body), "@scarf")
        for y in (430, 448):
            draw.line(placed(f"M304 {y}C318 {y + 4} 336 {y + 4} 350 {y}", body), "#f2d08a", 5.0, opacity=0.85)
        draw.path(
            placed("M170 380C200 420 312 420 342 380L346 410C300 430 212 430 166 410Z", body),
            FUR_DARK,
            opacity=0.35,
            filter="soft4",
        )
        draw.path(placed(scarf, body), "@scarf")
        shape = placed(scarf, body)
        draw.clip(shape)
        draw.path(
            placed("M160 318C200 352 312 352 352 318L352 348C300 372 212 372 160 348Z", body),
            "#06302f",
            opacity=0.55,
            filter="soft4",
        )
        draw.line(
            placed(strands("M164 356C200 380 312 380 348 356", "M168 400C210 414 302 414 344 400", 7, sway=1.5), body),
            "#0e4a4b",
            1.6,
            opacity=0.5,
        )
        draw.line(placed("M166 372C206 394 306 394 346 372", body), "#f2d08a", 5.0, opacity=0.85)
        draw.close()

    def _neck(self, draw: Drawing, pose: Pose) -> None:
        pass

    def _ears(self, draw: Drawing, pose: Pose) -> None:
        for side in (-1, 1):

            def x(v: float, side: int = side) -> float:
                return 256 + side * v

            ear = f"M{x(104)} 190C{x(122)} 150 {x(136)} 90 {x(126)} 30C{x(88)} 44 {x(48)} 78 {x(26)} 122Z"
            inside = f"M{x(98)} 172C{x(112)} 140 {x(120)} 96 {x(116)} 54C{x(92)} 66 {x(66)} 92 {x(50)} 124Z"
            tip = f"M{x(133)} 84C{x(134)} 66 {x(131)} 48 {x(126)} 30C{x(108)} 37 {x(92)} 46 {x(78)} 60C{x(96)} 66 {x(116)} 72 {x(133)} 84Z"
            place = pose.at(4)
            draw.path(placed(ear, place), "@fur")
            draw.path(placed(tip, place), BARK)
            draw.path(placed(inside, pose.at(14)), "@earin")
            tuft = (
                f"M{x(46)} 130C{x(62)} 118 {x(74)} 106 {x(82)} 90C{x(84)} 102 {x(84)} 108 {x(82)} 116C{x(90)} 108 {x(98)} 98 {x(102)} 88"
                f"C{x(104)} 102 {x(102)} 114 {x(98)} 124C{x(104)} 118 {x(108)} 112 {x(111)} 106C{x(112)} 130 {x(106)} 152 {x(98)} 172Z"
            )
            draw.path(placed(tuft, pose.at(18)), "@cream", opacity=0.92)

    def outline(self, head: Head, mouth: Mouth) -> str:
        return placed(HEAD, self._jaw(self._started(head)[1], mouth))

    def skin(self, head: Head) -> Drawing:
        draw, pose = self._started(head)
        face = pose.face()
        draw.path(placed("M96 96L416 96L416 380L96 380Z", pose.at(10)), "@fur")
        draw.path(placed(ellipse(226, 140, 60, 40), face), "@sheen", opacity=0.6)
        draw.path(placed(CHEEKS, pose.face(4)), "@cream")
        for side in (-1, 1):

            def x(v: float, side: int = side) -> float:
                return 256 + side * v

            draw.line(
                placed(
                    strands(
                        f"M{x(90)} 262C{x(106)} 272 {x(122)} 276 {x(140)} 276",
                        f"M{x(72)} 292C{x(86)} 304 {x(98)} 308 {x(112)} 308",
                        9,
                        sway=2,
                    ),
                    pose.face(4),
                ),
                CREAM_SHADE,
                2.0,
                opacity=0.7,
            )
        draw.line(
            placed(strands("M200 120C210 132 214 148 216 164", "M312 120C302 132 298 148 296 164", 14, sway=2), face),
            FUR_LIGHT,
            2.0,
            opacity=0.5,
        )
        draw.path(placed("M410 130C380 220 350 310 270 360L420 380Z", pose.at(30)), "@turned", filter="soft8")
        return draw

    def chin_hair(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        pass

    def middle(self, head: Head, mouth: Mouth) -> Drawing:
        """The muzzle: a rounded shape in front of the face."""
        draw, pose = self._started(head, "middle")
        drop = 9 * mouth.openness
        muzzle = (
            "M256 236C226 238 200 266 196 292C194 {0} 226 {1} 256 {2}C286 {1} 318 {0} 316 292C312 266 286 238 256 236Z"
        )
        draw.path(placed(muzzle.format(318, 338, 340), pose.face(18)), "#6b3416", opacity=0.22, filter="soft8")
        draw.clip(placed(muzzle.format(318 + drop, 338 + drop, 340 + drop), pose.face(20)))
        draw.path(placed("M190 230L322 230L322 356L190 356Z", pose.face(20)), "@cream")
        draw.close()
        draw.path(
            placed("M256 150C236 180 228 214 236 250C242 262 270 262 276 250C284 214 276 180 256 150Z", pose.face(20)),
            "@fur",
            opacity=0.9,
            filter="soft4",
        )
        draw.path(
            placed("M250 170C244 196 242 220 246 240C252 240 256 236 256 226C256 206 254 186 250 170Z", pose.face(24)),
            "#ffe2b8",
            opacity=0.35,
            filter="soft4",
        )
        return draw

    def draw_mouth(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        super().draw_mouth(draw, pose, mouth)
        for side in (-1, 1):
            for i in range(3):
                draw.path(
                    placed(ellipse(256 + side * (40 + 5 * (i % 2)), 276 + i * 9, 1.6), pose.face(24)),
                    self.look.deep,
                    opacity=0.45,
                )
        self._snout(draw, pose, mouth)

    def _snout(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        place = pose.face(38)
        top = self.look.mouth_y - 36 * 0.2 * mouth.openness
        draw.line(placed(f"M256 272L256 {top - 1}", pose.face(32)), self.look.deep, 2.2, opacity=0.75)
        draw.path(
            placed(
                "M228 252C228 242 242 239 256 239C270 239 284 242 284 252C284 264 268 275 256 276C244 275 228 264 228 252Z",
                place,
            ),
            "@nose",
        )
        draw.path(placed(ellipse(248, 246, 10, 3.6), place), "#ffffff", opacity=0.5, filter="soft2")
        for side in (-1, 1):
            draw.path(placed(ellipse(256 + side * 12, 259, 4.2, 3), place), "#0a0504")

    def hair(self, draw: Drawing, pose: Pose) -> None:
        """A tuft between the ears."""
        place = pose.face(6)
        draw.path(
            placed(
                "M232 112C236 96 244 88 254 78C254 88 258 92 264 96C268 90 274 88 282 86C278 96 280 104 284 114C268 122 246 122 232 112Z",
                place,
            ),
            "@fur",
        )
        draw.line(
            placed(strands("M240 110C244 98 250 92 253 86", "M276 112C274 102 276 96 278 92", 5, sway=0.8), place),
            FUR_LIGHT,
            1.6,
            opacity=0.7,
        )
